"""Queries of voucher types, and of the copies of organizations and clients."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, bindparam, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import ClientNotFound, OrganizationNotFound, VoucherTypeNotFound
from services.vouchers.models import ClientCopy, OrganizationCopy, Voucher, VoucherType
from services.vouchers.queries.rows import Rows, position, require
from shared.paging import Page


@dataclass(frozen=True, slots=True)
class Offer:
    """A voucher type with our copies of its organization and of a client, where there are any."""

    type: VoucherType
    organization: OrganizationCopy | None
    client: ClientCopy | None


_TYPE = VoucherType.__table__.columns
_OFFER = (
    select(VoucherType, OrganizationCopy, ClientCopy)
    .outerjoin(OrganizationCopy, OrganizationCopy.id == VoucherType.organization_id)
    .outerjoin(ClientCopy, ClientCopy.id == bindparam("client_id"))
    .where(VoucherType.id == bindparam("voucher_type_id"))
    .with_for_update(read=True, key_share=True, of=VoucherType)
)


async def get_organization(session: AsyncSession, organization_id: int) -> OrganizationCopy:
    """Return our copy of an organization; raises OrganizationNotFound."""
    return require(await session.get(OrganizationCopy, organization_id), OrganizationNotFound)


async def get_client(session: AsyncSession, client_id: int | None) -> ClientCopy:
    """Return our copy of a client; raises ClientNotFound."""
    copy = await session.scalar(select(ClientCopy).where(ClientCopy.id == client_id))
    return require(copy, ClientNotFound)


async def list_organizations_without_copy(session: AsyncSession) -> Sequence[int]:
    """Return the ids of the organizations that have voucher types but no copy here."""
    has_copy = exists().where(OrganizationCopy.id == VoucherType.organization_id)
    return (
        await session.scalars(select(VoucherType.organization_id).where(~has_copy).distinct())
    ).all()


async def has_organization(session: AsyncSession, slug: str) -> bool:
    """Return whether there is a copy of the organization with this slug."""
    return bool(await session.scalar(select(exists().where(OrganizationCopy.slug == slug))))


async def list_time_zones(session: AsyncSession) -> Sequence[str]:
    """Return the time zones of all organizations."""
    return (await session.scalars(select(OrganizationCopy.timezone).distinct())).all()


async def get_voucher_type(
    session: AsyncSession, organization_id: int, voucher_type_id: int
) -> VoucherType:
    """Return an organization's voucher type; raises VoucherTypeNotFound."""
    statement = _select_voucher_type(organization_id, voucher_type_id)
    return require(await session.scalar(statement), VoucherTypeNotFound)


async def lock_voucher_type(
    session: AsyncSession, organization_id: int, voucher_type_id: int
) -> VoucherType:
    """Return an organization's voucher type, locked for a change; raises VoucherTypeNotFound."""
    statement = _select_voucher_type(organization_id, voucher_type_id).with_for_update()
    return require(await session.scalar(statement), VoucherTypeNotFound)


async def lock_offer(session: AsyncSession, voucher_type_id: int, client_id: int) -> Offer:
    """Return a voucher type of any organization with our copies of its organization and a client.

    The type is locked against deletion, not against other purchases. Raises VoucherTypeNotFound.
    """
    parameters = {"voucher_type_id": voucher_type_id, "client_id": client_id}
    row = (await session.execute(_OFFER, parameters)).one_or_none()
    return Offer(*require(row, VoucherTypeNotFound))


async def has_vouchers(session: AsyncSession, voucher_type: VoucherType) -> bool:
    """Return whether any voucher of a type exists."""
    any_voucher = exists().where(
        Voucher.organization_id == voucher_type.organization_id,
        Voucher.voucher_type_id == voucher_type.id,
    )
    return bool(await session.scalar(select(any_voucher)))


async def has_voucher_types(session: AsyncSession, organization_id: int) -> bool:
    """Return whether an organization has any voucher type."""
    any_type = exists().where(VoucherType.organization_id == organization_id)
    return bool(await session.scalar(select(any_type)))


async def lock_voucher_types_of(session: AsyncSession, organization_id: int) -> None:
    """Serialize the transactions that create an organization's default voucher types."""
    key = func.hashtextextended(f"voucher types of {organization_id}", 3)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


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
    """Return a page of the voucher types on sale, newest first.

    Each of `organization_ids` must be the type's organization: two different ids match no type.
    """
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


def _select_voucher_type(organization_id: int, voucher_type_id: int) -> Select[VoucherType]:
    return select(VoucherType).where(
        VoucherType.organization_id == organization_id, VoucherType.id == voucher_type_id
    )
