"""Queries of organizations' accounts at gateways."""

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import AccountStatus, PaymentAccount

_CHARGING = select(PaymentAccount.gateway_account).where(
    PaymentAccount.organization_id == bindparam("organization_id"),
    PaymentAccount.payment_gateway == bindparam("gateway"),
    PaymentAccount.live == bindparam("live"),
    PaymentAccount.status == AccountStatus.CONNECTED,
    PaymentAccount.charges_enabled,
)


async def find_charging_account(
    session: AsyncSession, gateway: str, organization_id: int, *, live: bool
) -> str | None:
    """Return the id of the account on which an organization's cards may be charged, or None."""
    parameters = {"organization_id": organization_id, "gateway": gateway, "live": live}
    return await session.scalar(_CHARGING, parameters)


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
