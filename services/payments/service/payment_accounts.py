"""Organizations' accounts at gateways: which account receives a payment.

In the mode `installation` it is the installation's own account. In the mode `organization` it is
the organization's connected account, and there is no substitute for it. A payment stays on the
account that it was charged on, whatever the mode and the organization's account are later.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.gateways import (
    INSTALLATION_ACCOUNT,
    AccountMode,
    Failure,
    GatewayAccount,
    Gateways,
    OnlineGateway,
)
from services.payments.models import PaymentTransaction

CARDS_NOT_AVAILABLE = Failure(
    "cards_not_available",
    "The organization cannot take card payments at present. Choose another method of payment.",
)


async def charging_account(
    begin: Callable[[], AbstractAsyncContextManager[AsyncSession]],
    gateways: Gateways,
    gateway: OnlineGateway,
    organization_id: int,
) -> GatewayAccount | None:
    """Return what `find_charging_account` returns, in a transaction of its own if it needs one."""
    if gateways.accounts is AccountMode.INSTALLATION:
        return INSTALLATION_ACCOUNT
    async with begin() as session:
        return await find_charging_account(session, gateways, gateway, organization_id)


async def find_charging_account(
    session: AsyncSession, gateways: Gateways, gateway: OnlineGateway, organization_id: int
) -> GatewayAccount | None:
    """Return the account on which a new payment of an organization is charged.

    None if the organization has no account, or one that may not charge.
    """
    if gateways.accounts is AccountMode.INSTALLATION:
        return INSTALLATION_ACCOUNT
    account = await queries.find_charging_account(
        session, gateway.name, organization_id, live=gateway.live
    )
    return GatewayAccount(account) if account else None


async def owns(session: AsyncSession, payment: PaymentTransaction, account: str | None) -> bool:
    """Return whether a payment may be on an account: the installation's, or its organization's."""
    if account is None:
        return True
    return await queries.has_account(
        session, payment.payment_gateway, payment.organization_id, account
    )
