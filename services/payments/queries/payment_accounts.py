"""Queries of organizations' accounts at gateways."""

from decimal import Decimal

from sqlalchemy import Row, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import AccountStatus, PaymentAccount, PlatformFee

ChargingRow = Row[str | None, Decimal, Decimal, str | None]
"""An account that may charge, and the parts of its organization's fee rate; null without one."""

_CHARGING = (
    select(
        PaymentAccount.gateway_account,
        PlatformFee.percent,
        PlatformFee.fixed_amount,
        PlatformFee.fixed_currency,
    )
    .outerjoin(PlatformFee, PlatformFee.organization_id == PaymentAccount.organization_id)
    .where(
        PaymentAccount.organization_id == bindparam("organization_id"),
        PaymentAccount.payment_gateway == bindparam("gateway"),
        PaymentAccount.live == bindparam("live"),
        PaymentAccount.status == AccountStatus.CONNECTED,
        PaymentAccount.charges_enabled,
    )
)


async def find_charging_account(
    session: AsyncSession, gateway: str, organization_id: int, *, live: bool
) -> ChargingRow | None:
    """Return the account on which an organization's cards may be charged, or None."""
    parameters = {"organization_id": organization_id, "gateway": gateway, "live": live}
    return (await session.execute(_CHARGING, parameters)).one_or_none()


async def has_account(
    session: AsyncSession, gateway: str, organization_id: int, account: str
) -> bool:
    """Return whether an account is an organization's, or was before it was disconnected."""
    statement = select(PaymentAccount.id).where(
        PaymentAccount.payment_gateway == gateway,
        PaymentAccount.gateway_account == account,
        PaymentAccount.organization_id == organization_id,
    )
    return await session.scalar(statement) is not None
