"""The creation of an account at a gateway: our row is stored first, then the account is created.

The row names the account at the gateway (`reference`), so it is created once however often the
process is interrupted, and its id is stored in the row of an account that nobody has ended since.
"""

import structlog

from services.payments import queries
from services.payments.errors import PaymentAccountGone, PaymentAccountRefused
from services.payments.gateways import AccountOrder, ConnectingGateway, GatewayRefused
from services.payments.models import AccountStatus, PaymentAccount
from services.payments.service.account_states import apply_account_report, end_account
from shared.failpoints import failpoint
from shared.work import Begin

log = structlog.get_logger(__name__)


async def create_account(
    begin: Begin, gateway: ConnectingGateway, account_id: int
) -> PaymentAccount:
    """Create the account of a row at its gateway, once, and return the row with its id.

    A refusal ends the row, so that another one can be requested with other details. Raises
    PaymentAccountRefused, PaymentAccountGone (it was ended meanwhile) and GatewayUnavailable.
    """
    async with begin() as session:
        account = await queries.lock_account(session, account_id)
        email = await queries.find_organization_email(session, account.organization_id)
    if account.gateway_account is not None or account.status == AccountStatus.DISCONNECTED:
        return account
    try:
        report = await gateway.create_account(_order_of(account, email))
    except GatewayRefused as refusal:
        log.warning("account_refused", account_id=account_id, code=refusal.failure.code)
        async with begin() as session:
            account = await queries.lock_account(session, account_id)
            if account.gateway_account is None:
                end_account(session, account, refusal.failure.code)
        raise refused(refusal) from refusal
    failpoint("account.created")
    async with begin() as session:
        account = await queries.lock_account(session, account_id)
        if account.status == AccountStatus.DISCONNECTED:
            raise PaymentAccountGone
        if account.gateway_account is None:
            apply_account_report(session, account, report)
    failpoint("account.connected")
    return account


def _order_of(account: PaymentAccount, email: str | None) -> AccountOrder:
    return AccountOrder(
        reference=str(account.id),
        organization_id=account.organization_id,
        requested_at=account.created_at,
        country=account.country,
        email=email,
    )


def refused(refusal: GatewayRefused) -> PaymentAccountRefused:
    """Return the error that passes a gateway's refusal on to staff."""
    message = refusal.failure.message.rstrip(".")
    return PaymentAccountRefused(f"The payment gateway refused the account: {message}.")
