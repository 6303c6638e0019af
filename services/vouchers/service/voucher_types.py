"""Use cases of voucher types: create, change, take on and off sale, delete."""

from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import OrganizationNotFound
from services.vouchers.models import Frequency, OrganizationCopy, VoucherType
from services.vouchers.schemas.voucher_types import (
    VoucherTypeCreate,
    fault_of_days,
    fault_of_price,
)
from shared.actors import Actor
from shared.changes import record
from shared.errors import Invalid
from shared.preconditions import Precondition


def require_member(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for whoever does not belong to the organization."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound


def require_manager(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound or Forbidden for whoever does not manage the voucher types."""
    require_member(actor, organization_id)
    actor.require(policies.MANAGE_VOUCHER_TYPES, organization_id)


async def create(
    session: AsyncSession, organization: OrganizationCopy, order: VoucherTypeCreate
) -> VoucherType:
    """Put a new voucher type on sale, in the organization's currency unless another is named.

    Raises Invalid for a price that the currency does not have.
    """
    fields = order.fields()
    fields["currency"] = fields["currency"] or organization.currency
    _require_payable(fields["price"], fields["currency"])
    kind = VoucherType(organization_id=organization.id, is_active=True, **fields)
    session.add(kind)
    record(session, "CREATE", kind)
    await session.flush()
    return kind


async def update(
    session: AsyncSession,
    organization_id: int,
    voucher_type_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> VoucherType:
    """Change a voucher type; what was sold keeps its terms.

    Raises VoucherTypeNotFound, StaleVersion, and Invalid when frequency and days, or price and
    currency, do not agree.
    """
    kind = await queries.lock_voucher_type(session, organization_id, voucher_type_id)
    precondition.check(kind.version)
    price, currency = changes.get("price", kind.price), changes.get("currency", kind.currency)
    _require_payable(price, currency)
    for name, value in _agreeing(kind, changes).items():
        setattr(kind, name, value)
    if session.is_modified(kind):
        record(session, "UPDATE", kind)
        await session.flush()
    return kind


def _agreeing(kind: VoucherType, changes: dict[str, Any]) -> dict[str, Any]:
    """Add what a change implies: leaving `custom` empties the days that belonged to it."""
    frequency = changes.get("frequency", kind.frequency)
    if "custom_days" not in changes and frequency != Frequency.CUSTOM:
        changes = changes | {"custom_days": None}
    if fault := fault_of_days(frequency, changes.get("custom_days", kind.custom_days)):
        raise Invalid("custom_days", fault)
    return changes


def _require_payable(price: Decimal, currency: str) -> None:
    if fault := fault_of_price(price, currency):
        raise Invalid("price", fault)


async def activate(
    session: AsyncSession, organization_id: int, voucher_type_id: int, precondition: Precondition
) -> VoucherType:
    """Put a voucher type on sale again; nothing happens when it is."""
    kind = await queries.lock_voucher_type(session, organization_id, voucher_type_id)
    precondition.check(kind.version)
    if not kind.is_active:
        kind.activate()
        record(session, "ACTIVATE", kind)
        await session.flush()
    return kind


async def deactivate(
    session: AsyncSession, organization_id: int, voucher_type_id: int, precondition: Precondition
) -> VoucherType:
    """End the sale of a voucher type at once; what was sold keeps working."""
    kind = await queries.lock_voucher_type(session, organization_id, voucher_type_id)
    precondition.check(kind.version)
    await _take_off_sale(session, kind)
    return kind


async def delete(
    session: AsyncSession, organization_id: int, voucher_type_id: int, precondition: Precondition
) -> None:
    """Delete a voucher type that was never sold; take any other off sale for good.

    The lock keeps purchases out, so that none can begin between the look and the deletion.
    """
    kind = await queries.lock_voucher_type(session, organization_id, voucher_type_id)
    precondition.check(kind.version)
    if await queries.was_sold(session, kind):
        await _take_off_sale(session, kind)
        return
    await session.delete(kind)
    record(session, "DELETE", kind)


async def _take_off_sale(session: AsyncSession, kind: VoucherType) -> None:
    if kind.is_active:
        kind.deactivate()
        record(session, "DEACTIVATE", kind)
        await session.flush()
