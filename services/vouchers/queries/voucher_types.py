"""Selects of voucher types, and of the copies of who sells and buys them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, bindparam, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import ClientNotFound, OrganizationNotFound, VoucherTypeNotFound
from services.vouchers.models import ClientCopy, OrganizationCopy, Voucher, VoucherType
from services.vouchers.queries.rows import Rows, columns_of, found, position
from services.vouchers.schemas.voucher_types import VoucherTypeRead
from shared.paging import Page


@dataclass(frozen=True, slots=True)
class Offer:
    """A voucher type, and what is known here of its organization and of a client."""

    type: VoucherType
    organization: OrganizationCopy | None
    client: ClientCopy | None


_TYPE = columns_of(VoucherType, VoucherTypeRead.model_fields)
_OFFER = (
    select(VoucherType, OrganizationCopy, ClientCopy)
    .outerjoin(OrganizationCopy, OrganizationCopy.id == VoucherType.organization_id)
    .outerjoin(ClientCopy, ClientCopy.id == bindparam("client_id"))
    .where(VoucherType.id == bindparam("voucher_type_id"))
    .with_for_update(read=True, key_share=True, of=VoucherType)
)


async def get_organization(session: AsyncSession, organization_id: int) -> OrganizationCopy:
    """Return our copy of an organization; raises OrganizationNotFound."""
    copy = await session.get(OrganizationCopy, organization_id)
    if copy is None:
        raise OrganizationNotFound
    return copy


async def get_client(session: AsyncSession, client_id: int | None) -> ClientCopy:
    """Return our copy of a client; raises ClientNotFound."""
    copy = await session.scalar(select(ClientCopy).where(ClientCopy.id == client_id))
    return found(copy, ClientNotFound)


async def organizations_without_copy(session: AsyncSession) -> Sequence[int]:
    """Return the organizations that have voucher types here, but no copy."""
    known = exists().where(OrganizationCopy.id == VoucherType.organization_id)
    return (
        await session.scalars(select(VoucherType.organization_id).where(~known).distinct())
    ).all()


async def knows_slug(session: AsyncSession, slug: str) -> bool:
    """Say whether there is a copy of the organization with this slug."""
    known = exists().where(OrganizationCopy.slug == slug)
    return bool(await session.scalar(select(known)))


async def time_zones(session: AsyncSession) -> Sequence[str]:
    """Return every time zone that an organization keeps."""
    return (await session.scalars(select(OrganizationCopy.timezone).distinct())).all()


async def get_voucher_type(
    session: AsyncSession, organization_id: int, voucher_type_id: int
) -> VoucherType:
    """Return an organization's voucher type; raises VoucherTypeNotFound."""
    statement = _one_type(organization_id, voucher_type_id)
    return found(await session.scalar(statement), VoucherTypeNotFound)


async def lock_voucher_type(
    session: AsyncSession, organization_id: int, voucher_type_id: int
) -> VoucherType:
    """Return an organization's voucher type, locked for a change; raises VoucherTypeNotFound."""
    statement = _one_type(organization_id, voucher_type_id).with_for_update()
    return found(await session.scalar(statement), VoucherTypeNotFound)


async def hold_offer(session: AsyncSession, voucher_type_id: int, client_id: int) -> Offer:
    """Return a voucher type of any organization, with our copies of who would sell and buy it.

    The type cannot be deleted before this transaction ends. Raises VoucherTypeNotFound.
    """
    wanted = {"voucher_type_id": voucher_type_id, "client_id": client_id}
    row = (await session.execute(_OFFER, wanted)).one_or_none()
    return Offer(*found(row, VoucherTypeNotFound))


async def was_sold(session: AsyncSession, kind: VoucherType) -> bool:
    """Say whether any voucher of a type exists."""
    sold = exists().where(
        Voucher.organization_id == kind.organization_id, Voucher.voucher_type_id == kind.id
    )
    return bool(await session.scalar(select(sold)))


async def has_voucher_types(session: AsyncSession, organization_id: int) -> bool:
    """Say whether an organization has any voucher type."""
    any_type = exists().where(VoucherType.organization_id == organization_id)
    return bool(await session.scalar(select(any_type)))


async def page_of_voucher_types(
    session: AsyncSession, page: Page, organization_id: int, *, is_active: bool | None
) -> Rows:
    """Return a page of an organization's voucher types, newest first."""
    statement = select(*_TYPE).where(VoucherType.organization_id == organization_id)
    if is_active is not None:
        statement = statement.where(VoucherType.is_active == is_active)
    rows = (await session.execute(page.of(statement, VoucherType.id))).all()
    return page.cut(rows, position)


async def page_of_offers(
    session: AsyncSession, page: Page, organization_ids: Sequence[int]
) -> Rows:
    """Return a page of what is sold now: of some organizations, or of all when none are named."""
    name = OrganizationCopy.name.label("organization_name")
    statement = (
        select(*_TYPE, name, OrganizationCopy.timezone)
        .join(OrganizationCopy, OrganizationCopy.id == VoucherType.organization_id)
        .where(VoucherType.is_active, OrganizationCopy.is_active)
    )
    for organization_id in organization_ids:
        statement = statement.where(VoucherType.organization_id == organization_id)
    rows = (await session.execute(page.of(statement, VoucherType.id))).all()
    return page.cut(rows, position)


def _one_type(organization_id: int, voucher_type_id: int) -> Select[VoucherType]:
    return select(VoucherType).where(
        VoucherType.organization_id == organization_id, VoucherType.id == voucher_type_id
    )
