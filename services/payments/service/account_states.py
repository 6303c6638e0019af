"""The state of connected accounts: our copy of what a gateway reports.

Events of a gateway arrive in any order. So an event only causes the account to be read at the
gateway, outside of a transaction, and what was read is stored if the row is still as it was before.
"""

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.events import announce_account
from services.payments.gateways import (
    AccountNotAccessible,
    AccountReport,
    ConnectingGateway,
    GatewayUnavailable,
    OnlineGateway,
)
from services.payments.models import AccountStatus, PaymentAccount
from shared.db import now
from shared.failpoints import failpoint
from shared.transactions import Transactions

NOT_ACCESSIBLE = "not_accessible"
"""The reason that is stored when the gateway gives us no access, for which it has no word."""

SOON = timedelta(minutes=1)
"""Until an account that has just changed is read again."""

ATTEMPTS = 5


def apply_account_report(
    session: AsyncSession, account: PaymentAccount, report: AccountReport
) -> bool:
    """Store a gateway's report of an account, which is locked; return whether it changed it.

    A disconnected account never changes again.
    """
    if account.status == AccountStatus.DISCONNECTED:
        return False
    values = {
        "charges_enabled": report.charges_enabled,
        "payouts_enabled": report.payouts_enabled,
        "requirements": list(report.requirements),
        "disabled_reason": report.disabled_reason,
        "country": report.country or account.country,
        "currency": report.currency or account.currency,
    }
    is_new = account.gateway_account is None
    if not is_new and all(getattr(account, name) == value for name, value in values.items()):
        return False
    for name, value in values.items():
        setattr(account, name, value)
    account.refresh_at = now() + SOON
    if is_new:
        account.gateway_account = report.gateway_id
        account.status = AccountStatus.CONNECTED
    announce_account(session, "CONNECT" if is_new else "UPDATE", account)
    return True


def end_account(session: AsyncSession, account: PaymentAccount, reason: str | None = None) -> None:
    """Store that an account, which is locked, is disconnected. It is done once."""
    if account.status == AccountStatus.DISCONNECTED:
        return
    account.status = AccountStatus.DISCONNECTED
    account.disconnected_at = now()
    account.charges_enabled = account.payouts_enabled = False
    account.disabled_reason = reason
    announce_account(session, "DISCONNECT", account)


async def apply_account_event(
    transactions: Transactions, gateway: OnlineGateway, report: AccountReport
) -> bool:
    """Read the account that a webhook reported; return whether its row changed.

    Raises GatewayUnavailable. A webhook of another mode, or about an unknown account, changes
    nothing.
    """
    if not isinstance(gateway, ConnectingGateway) or report.live != gateway.live:
        return False
    async with transactions.system() as session:
        account = await queries.find_account_by_gateway_id(session, gateway.name, report.gateway_id)
    if account is None:
        return False
    return await refresh_account(
        transactions, gateway, account.id, is_ended=not report.is_connected
    )


async def refresh_account(
    transactions: Transactions,
    gateway: ConnectingGateway,
    account_id: int,
    *,
    is_ended: bool = False,
) -> bool:
    """Read an account at its gateway and store its state; return whether its row changed.

    With `is_ended` the gateway has reported that the account was disconnected. Without it an
    account that is not accessible may not charge, and is not disconnected: the key of the
    installation may be wrong. Raises GatewayUnavailable.
    """
    for _ in range(ATTEMPTS):
        async with transactions.system() as session:
            account = await queries.lock_account(session, account_id)
        if account.gateway_account is None or account.status == AccountStatus.DISCONNECTED:
            return False
        report = await _read(gateway, account.gateway_account)
        failpoint("account.read")
        async with transactions.system() as session:
            current = await queries.lock_account(session, account_id)
            if current.version != account.version:
                continue  # another process has stored a state, perhaps a newer one
            if is_ended and not report.is_connected:
                end_account(session, current)
                return True
            return apply_account_report(session, current, report)
    raise GatewayUnavailable("the account changes faster than it can be read")


async def _read(gateway: ConnectingGateway, account: str) -> AccountReport:
    try:
        return await gateway.read_account(account)
    except AccountNotAccessible:
        return AccountReport(account, disabled_reason=NOT_ACCESSIBLE, is_connected=False)
