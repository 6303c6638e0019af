"""Organizations' accounts at gateways: which account receives a payment.

In the mode `installation` it is the installation's own account. In the mode `organization` it is
the organization's connected account, and there is no substitute for it. A payment stays on the
account that it was charged on, whatever the mode and the organization's account are later.
"""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.gateways import (
    ACCOUNT_CANNOT_CHARGE,
    INSTALLATION_ACCOUNT,
    AccountMode,
    Failure,
    GatewayAccount,
    Gateways,
    OnlineGateway,
)
from services.payments.models import NO_FEE, AccountStatus, FeeRate, PaymentTransaction, SavedCard
from shared.db import now
from shared.work import Begin


@dataclass(frozen=True, slots=True)
class ChargingAccount:
    """The account on which a new payment is charged, and what the operator takes of it."""

    account: GatewayAccount
    fee_rate: FeeRate = NO_FEE


async def charging_account(
    begin: Begin,
    gateways: Gateways,
    gateway: OnlineGateway,
    organization_id: int,
) -> ChargingAccount | None:
    """Return what `find_charging_account` returns, in a transaction of its own if it needs one."""
    if gateways.accounts is AccountMode.INSTALLATION:
        return ChargingAccount(INSTALLATION_ACCOUNT)
    async with begin() as session:
        return await find_charging_account(session, gateways, gateway, organization_id)


async def find_charging_account(
    session: AsyncSession, gateways: Gateways, gateway: OnlineGateway, organization_id: int
) -> ChargingAccount | None:
    """Return the account on which a new payment of an organization is charged.

    None if the organization has no account, or one that may not charge.
    """
    if gateways.accounts is AccountMode.INSTALLATION:
        return ChargingAccount(INSTALLATION_ACCOUNT)
    row = await queries.find_charging_account(
        session, gateway.name, organization_id, live=gateway.live
    )
    if row is None:
        return None
    account, percent, fixed_amount, fixed_currency = row
    rate = FeeRate(percent or Decimal(0), fixed_amount or Decimal(0), fixed_currency)
    return ChargingAccount(GatewayAccount(account), rate)


async def owns(session: AsyncSession, payment: PaymentTransaction, account: str | None) -> bool:
    """Return whether a payment may be on an account: the installation's, or its organization's."""
    if account is None:
        return True
    return await queries.has_account(
        session, payment.payment_gateway, payment.organization_id, account
    )


async def note_refusal(
    session: AsyncSession,
    gateway: OnlineGateway,
    account: GatewayAccount | None,
    failure: Failure,
) -> None:
    """Have an account read again soon whose charge was refused because of the account."""
    if failure.code == ACCOUNT_CANNOT_CHARGE.code and account is not None and account.id:
        row = await queries.lock_account_by_gateway_id(session, gateway.name, account.id)
        if row is not None:
            row.refresh_at = now()


async def is_disconnected(session: AsyncSession, row: PaymentTransaction | SavedCard) -> bool:
    """Return whether a payment or a saved card is on an account that was disconnected."""
    if row.gateway_account is None:
        return False
    account = await queries.find_account_by_gateway_id(
        session, row.payment_gateway, row.gateway_account
    )
    return account is not None and account.status == AccountStatus.DISCONNECTED
