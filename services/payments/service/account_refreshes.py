"""Accounts of organizations are read at their gateways in turn, in case a webhook was lost."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.payments import queries
from services.payments.gateways import ConnectingGateway, Gateways, GatewayUnavailable
from services.payments.models import PaymentAccount
from services.payments.service import account_creation, account_states
from shared.db import now
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

BATCH = 20
"""Accounts that are read in one run of the timer: a gateway limits the number of calls."""
SHORTEST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class AccountRefresher:
    """Reads accounts of organizations: the incomplete ones often, the others once a day."""

    transactions: Transactions
    gateways: Gateways

    async def refresh_due(self) -> None:
        """Read the accounts that are due, and create those whose creation was interrupted."""
        for gateway in self.gateways.connecting():
            for account in await self._take_due(gateway):
                try:
                    await self._refresh(gateway, account)
                except Exception as error:
                    log.error("account_not_refreshed", account_id=account.id, exc_info=error)

    async def _take_due(self, gateway: ConnectingGateway) -> list[PaymentAccount]:
        async with self.transactions.system() as session:
            accounts = await queries.lock_accounts_to_refresh(
                session, gateway.name, now(), BATCH, live=gateway.live
            )
            for account in accounts:
                account.refresh_at = next_refresh(account, now())
        return list(accounts)

    async def _refresh(self, gateway: ConnectingGateway, account: PaymentAccount) -> None:
        try:
            if account.gateway_account is None:
                await account_creation.create_account(self.transactions.system, gateway, account.id)
            else:
                await account_states.refresh_account(self.transactions, gateway, account.id)
        except GatewayUnavailable as error:
            log.warning("gateway_unavailable", step="refresh_account", cause=str(error))


def next_refresh(account: PaymentAccount, moment: datetime) -> datetime:
    """Return when an account is to be read again.

    A complete one is read once a day. The longer another one is incomplete, the more seldom.
    """
    is_complete = account.charges_enabled and account.payouts_enabled and not account.requirements
    if is_complete:
        return moment + LONGEST_PAUSE
    pause = max((moment - account.created_at) / 10, SHORTEST_PAUSE)
    return moment + min(pause, LONGEST_PAUSE)
