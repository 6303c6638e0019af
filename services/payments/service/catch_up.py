"""Catching up: what a gateway lists of an account, and no webhook brought, is applied.

Connected accounts take turns, the one whose last turn is longest ago first. Workers share them, and
each serves several at once, so that neither an account that fails nor one with thousands of events
delays the others. An account that was disconnected here has turns for 30 days more: its payments
can still be refunded and disputed at the gateway.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from services.payments import queries
from services.payments.gateways import (
    INSTALLATION_ACCOUNT,
    GatewayAccount,
    Gateways,
    GatewayUnavailable,
    OnlineGateway,
    RefundReport,
    WebhookNotice,
)
from services.payments.models import AccountStatus
from services.payments.service import refunds, webhooks
from services.payments.service.call_limiter import CallLimiter
from services.payments.service.isolation import isolated
from shared.db import now
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

ACCOUNTS_AT_ONCE = 4
INTERVAL = timedelta(minutes=5)
"""How often an account has its turn. It has the next one earlier if its turn did not end."""
OVERLAP = timedelta(hours=2)
"""How far before the last turn the gateway's lists are read: several times the interval."""
LONGEST_WINDOW = timedelta(days=30)
"""How long gateways list events: https://docs.stripe.com/api/events/list."""
PAGE = 100
"""How many items a gateway lists in one call."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn of a connected account, whose row has the id `account_id`."""

    account_id: int
    gateway: OnlineGateway
    account: GatewayAccount
    since: datetime
    is_connected: bool


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Reads the lists of gateways; every step is safe to repeat and to race."""

    transactions: Transactions
    gateways: Gateways
    limiter: CallLimiter

    async def catch_up_installation(self) -> None:
        """Catch up with the installation's own account at each gateway."""
        for gateway in self.gateways.all_online():
            try:
                await self._apply_lists(gateway, INSTALLATION_ACCOUNT, now() - OVERLAP)
            except GatewayUnavailable as error:
                log.warning("gateway_unavailable", step="catch_up", cause=str(error))

    async def catch_up_accounts(self) -> None:
        """Catch up with each connected account whose turn it is."""
        before = now() - INTERVAL
        async with asyncio.TaskGroup() as group:
            for _ in range(ACCOUNTS_AT_ONCE):
                group.create_task(self._take_turns(before))

    async def _take_turns(self, before: datetime) -> None:
        while (turn := await self._next_turn(before)) is not None:
            with isolated("payment_account", turn.account_id):
                await self._complete(turn)

    async def _next_turn(self, before: datetime) -> Turn | None:
        """Reserve the account whose last turn is longest ago, or return None if none is due."""
        open_gateways = [(gateway.name, gateway.live) for gateway in self.gateways.all_online()]
        async with self.transactions.system() as session:
            row = await queries.lock_account_to_catch_up(
                session, open_gateways, before, now() - LONGEST_WINDOW
            )
            gateway = self.gateways.online(row.payment_gateway) if row else None
            if row is None or gateway is None:
                return None
            moment = now()
            row.catch_up_attempted_at = moment
            since = (row.caught_up_at or row.created_at) - OVERLAP
            account = GatewayAccount(row.gateway_account)
            since = max(since, moment - LONGEST_WINDOW)
            is_connected = row.status == AccountStatus.CONNECTED
            return Turn(row.id, gateway, account, since, is_connected)

    async def _complete(self, turn: Turn) -> None:
        """Catch up with an account; its next window begins here only if nothing is missing."""
        started_at = now()
        try:
            await self._apply_lists(turn.gateway, turn.account, turn.since, turn)
        except GatewayUnavailable as error:
            # The owner of an account that was disconnected may have revoked our access.
            level = logging.WARNING if turn.is_connected else logging.INFO
            details = {"step": "catch_up", "account": turn.account.id, "cause": str(error)}
            log.log(level, "gateway_unavailable", **details)
            return
        async with self.transactions.system() as session:
            row = await queries.lock_account(session, turn.account_id)
            row.caught_up_at = started_at

    async def _apply_lists(
        self,
        gateway: OnlineGateway,
        account: GatewayAccount,
        since: datetime,
        turn: Turn | None = None,
    ) -> None:
        """Apply the events and refunds that a gateway lists; raises GatewayUnavailable."""
        async for events in self._pages(gateway.events_since(account, since)):
            await self._store_events(gateway, events)
            await self._extend(turn)
        async for reports in self._pages(gateway.refunds_since(account, since)):
            await self._apply_refunds(gateway, reports)
            await self._extend(turn)

    async def _pages(self, items: AsyncIterator[Item]) -> AsyncIterator[list[Item]]:
        """Yield items in the pages in which the gateway lists them, each within the limit."""
        page: list[Item] = []
        await self.limiter.wait()
        async for item in items:
            page.append(item)
            if len(page) == PAGE:
                yield page
                page = []
                await self.limiter.wait()
        if page:
            yield page

    async def _store_events(
        self, gateway: OnlineGateway, events: Sequence[tuple[WebhookNotice, bytes]]
    ) -> None:
        ids = [notice.event_id for notice, _ in events]
        async with self.transactions.system() as session:
            known_ids = set(await queries.list_known_events(session, gateway.name, ids))
        for notice, body in events:
            if notice.event_id in known_ids:
                continue
            with isolated("event", notice.event_id):
                async with self.transactions.system() as session:
                    is_new = await webhooks.store(session, gateway, notice, body, None)
                if is_new:
                    log.info("webhook_missed", gateway=gateway.name, event_id=notice.event_id)

    async def _apply_refunds(self, gateway: OnlineGateway, reports: Sequence[RefundReport]) -> None:
        for report in reports:
            with isolated("refund", report.gateway_id):
                async with self.transactions.system() as session:
                    await refunds.apply_unrequested_refund_report(session, gateway.name, report)

    async def _extend(self, turn: Turn | None) -> None:
        """Reserve the account for longer: many pages must not be read by two workers at once."""
        if turn is not None:
            async with self.transactions.system() as session:
                row = await queries.lock_account(session, turn.account_id)
                row.catch_up_attempted_at = now()
