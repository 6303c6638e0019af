"""The operator's fee on the card payments of an organization.

It is charged on connected accounts only: in the mode `installation` the money is the operator's
account's anyway. A payment has the fee that was set when it was prepared at the gateway.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, queries
from services.payments.gateways import smallest_unit
from services.payments.models import PlatformFee
from services.payments.schemas.accounts import (
    PlatformFeeSet,
)
from shared.actors import Actor
from shared.changes import record
from shared.errors import Invalid
from shared.money import CENT
from shared.reads import Reader


async def get_platform_fee(reader: Reader, actor: Actor, organization_id: int) -> bytes:
    """Return the fee rate of an organization as JSON.

    Raises OrganizationNotFound and Forbidden.
    """
    access.require_viewer(actor, organization_id)
    return await queries.get_fee_document(reader, organization_id)


async def set_platform_fee(
    session: AsyncSession, actor: Actor, organization_id: int, body: PlatformFeeSet
) -> PlatformFee:
    """Set the fee rate of an organization's later payments.

    Raises OrganizationNotFound, Forbidden, and Invalid for an amount that does not fit its
    currency.
    """
    access.require_administrator(actor, organization_id)
    _require_currency(body)
    values = {
        "percent": body.percent.quantize(CENT),
        "fixed_amount": body.fixed_amount.quantize(CENT),
        "fixed_currency": body.fixed_currency,
    }
    fee = await queries.lock_platform_fee(session, organization_id)
    if fee is None:
        fee = PlatformFee(organization_id=organization_id, **values)
        session.add(fee)
    elif all(getattr(fee, name) == value for name, value in values.items()):
        return fee
    else:
        for name, value in values.items():
            setattr(fee, name, value)
    record(session, "SET", fee, **values)
    await session.flush()
    return fee


def _require_currency(body: PlatformFeeSet) -> None:
    currency = body.fixed_currency
    if body.fixed_amount and currency is None:
        raise Invalid("fixed_currency", "is needed with an amount")
    if currency is None:
        return
    if not body.fixed_amount:
        raise Invalid("fixed_currency", "must be left out without an amount")
    if body.fixed_amount % smallest_unit(currency):
        raise Invalid("fixed_amount", f"must be whole: {currency} has no fractions")
