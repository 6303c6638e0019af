"""Who may reach what: 404 for strangers, 403 for members without the permission."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import OrganizationNotFound, VoucherNotFound
from services.vouchers.models import Voucher
from shared.actors import Actor, permission_missing
from shared.errors import Forbidden
from shared.reads import Reader


def require_member(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound unless the actor belongs to the organization."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound


def require_voucher_type_manager(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound or Forbidden unless the actor manages the voucher types."""
    require_member(actor, organization_id)
    actor.require(policies.MANAGE_VOUCHER_TYPES, organization_id)


def require_voucher_manager(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound or Forbidden unless the actor manages the vouchers."""
    require_member(actor, organization_id)
    actor.require(policies.MANAGE_VOUCHERS, organization_id)


def require_booking_manager(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound or Forbidden unless the actor manages the bookings."""
    require_member(actor, organization_id)
    actor.require(policies.MANAGE_BOOKINGS, organization_id)


def require_employee(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound or Forbidden unless the actor works for the organization."""
    require_member(actor, organization_id)
    if not (actor.is_admin or policies.is_employed(actor, organization_id)):
        raise Forbidden("Only the owners, therapists and staff of the organization see this.")


async def get_readable_voucher(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    """Return a voucher that the actor may read, detached; raises VoucherNotFound."""
    voucher, _ = await queries.get_voucher_with_zone(session, voucher_id)
    if not policies.can_read(actor, voucher):
        raise VoucherNotFound
    return voucher


async def get_readable_parties(reader: Reader, actor: Actor, voucher_id: int) -> Any:
    """Return the organization, client and guardian of a voucher that the actor may read, by id.

    Raises VoucherNotFound.
    """
    parties = await queries.find_parties(reader, voucher_id)
    if parties is None or not policies.can_read(actor, parties):
        raise VoucherNotFound
    return parties


async def get_bookable_voucher(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    """Return a voucher that the actor books with, detached.

    Raises VoucherNotFound or Forbidden.
    """
    voucher = await get_readable_voucher(session, actor, voucher_id)
    if not policies.can_book(actor, voucher):
        raise permission_missing(policies.MANAGE_BOOKINGS)
    return voucher


async def lock_readable_voucher(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    """Return a voucher that the actor may read, locked; raises VoucherNotFound."""
    await get_readable_voucher(session, actor, voucher_id)
    return await queries.lock_voucher(session, voucher_id)


async def lock_readable_voucher_with_zone(
    session: AsyncSession, actor: Actor, voucher_id: int
) -> tuple[Voucher, str | None]:
    """Return a voucher that the actor may read, detached and locked, with its time zone.

    Raises VoucherNotFound. A voucher that the actor may not read is not locked.
    """
    await get_readable_voucher(session, actor, voucher_id)
    return await queries.lock_voucher_with_zone(session, voucher_id)


async def lock_managed_voucher(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    """Return a voucher that the actor manages, locked; raises VoucherNotFound or Forbidden."""
    voucher = await lock_readable_voucher(session, actor, voucher_id)
    actor.require(policies.MANAGE_VOUCHERS, voucher.organization_id)
    return voucher
