"""Reads what gateways list of the balances and payouts of connected accounts.

It finds the payouts whose webhooks were lost, and the changes of a balance that no payout contains
yet. Accounts are read in turn, the one that waits longest first, a few at a time, so that no
gateway's rate limit is reached.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.payments import queries
from services.payments.gateways import (
    BalanceLine,
    GatewayAccount,
    Gateways,
    GatewayUnavailable,
    PayoutGateway,
)
from services.payments.models import PaymentAccount, Reconciliation
from services.payments.service import payouts
from services.payments.service.isolation import isolated
from services.payments.telemetry import PAYOUTS_MISMATCHED
from shared.db import now
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

READ_AGAIN = timedelta(minutes=5)
ACCOUNTS_AT_ONCE = 50
"""An account takes two calls, and a run takes place every 30 seconds."""

OVERLAP = timedelta(hours=1)
"""How far back changes of a balance are read again: their time is the gateway's."""

PAYOUTS_WINDOW = timedelta(days=30)
"""How far back payouts are read again: a bank may return one weeks after it was paid."""


@dataclass(frozen=True, slots=True)
class PayoutReader:
    """Reads balances and payouts; every step is safe to repeat and to race."""

    transactions: Transactions
    gateways: Gateways

    async def run(self) -> None:
        """Read the accounts that are due, compare what was unknown, and set the metric."""
        for gateway in self.gateways.all_with_payouts():
            for account in await self._due_accounts(gateway):
                await self._read_isolated(gateway, account)
        await self.compare_unknown()
        async with self.transactions.system() as session:
            PAYOUTS_MISMATCHED.set(await queries.count_mismatched_payouts(session))

    async def _due_accounts(self, gateway: PayoutGateway) -> list[PaymentAccount]:
        """Return the accounts that are due, reserved for this process."""
        before = now() - READ_AGAIN
        async with self.transactions.system() as session:
            accounts = await queries.lock_unread_accounts(
                session, gateway.name, before, ACCOUNTS_AT_ONCE, live=gateway.live
            )
            for account in accounts:
                account.balance_checked_at = now()
            return list(accounts)

    async def _read_isolated(self, gateway: PayoutGateway, account: PaymentAccount) -> None:
        with isolated("payment_account", account.id):
            try:
                await self.read_account(gateway, account)
            except GatewayUnavailable as error:
                log.warning("gateway_unavailable", step="payouts", cause=str(error))

    async def read_account(self, gateway: PayoutGateway, account: PaymentAccount) -> None:
        """Read an account's payouts and the changes of its balance; raises GatewayUnavailable."""
        started = now()
        since = (account.balance_read_until or account.created_at) - OVERLAP
        await self._read_payouts(gateway, account, min(since, started - PAYOUTS_WINDOW))
        batch: list[BalanceLine] = []
        async for line in gateway.balance_since(GatewayAccount(account.gateway_account), since):
            batch.append(line)
            if len(batch) == queries.LINES_AT_ONCE:
                await self._store(gateway, account, batch)
                batch.clear()
        await self._store(gateway, account, batch, read_until=started)

    async def _read_payouts(
        self, gateway: PayoutGateway, account: PaymentAccount, since: datetime
    ) -> None:
        own = GatewayAccount(account.gateway_account)
        statuses = {
            report.gateway_id: report.status async for report in gateway.payouts_since(own, since)
        }
        async with self.transactions.system() as session:
            states = await queries.list_payout_states(session, gateway.name, list(statuses))
        for gateway_id, status in statuses.items():
            state = states.get(gateway_id)
            if state is None or state[0] != status or state[1] == Reconciliation.PENDING:
                report = await gateway.look_up_payout(own, gateway_id)
                async with self.transactions.system() as session:
                    await payouts.apply_payout_report(session, gateway, report)

    async def _store(
        self,
        gateway: PayoutGateway,
        account: PaymentAccount,
        lines: list[BalanceLine],
        *,
        read_until: datetime | None = None,
    ) -> None:
        async with self.transactions.system() as session:
            row = await queries.lock_account_by_gateway_id(
                session, gateway.name, str(account.gateway_account)
            )
            if row is None:
                return
            await queries.store_lines(session, row, lines[::-1])
            await payouts.compare(session, row)
            if read_until is not None:
                row.balance_read_until = read_until

    async def compare_unknown(self) -> None:
        """Compare the lines that our books did not have with what they have by now."""
        since = now() - payouts.UNKNOWN_FOR
        async with self.transactions.system() as session:
            names = self.gateways.names
            accounts = await queries.list_accounts_with_unknown_lines(session, names, since)
        for gateway, account in accounts:
            async with self.transactions.system() as session:
                row = await queries.lock_account_by_gateway_id(session, gateway, account)
                if row is not None:
                    await payouts.compare(session, row)
