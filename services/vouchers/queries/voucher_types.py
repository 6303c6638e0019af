"""Queries of voucher types, and of the copies of organizations and clients."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import ClientNotFound, OrganizationNotFound, VoucherTypeNotFound
from services.vouchers.models import (
    AccountMode,
    ClientCopy,
    OrganizationCopy,
    PaymentAccountCopy,
    PaymentMethod,
    Voucher,
    VoucherType,
)
from services.vouchers.queries.rows import require
from services.vouchers.schemas.voucher_types import AvailableVoucherType, VoucherTypeRead
from shared.connections import Fetch, fetch
from shared.detached import SelectedColumns
from shared.json_rows import PreparedJson
from shared.paging import Page
from shared.reads import Document, JsonQuery, Reader


@dataclass(frozen=True, slots=True)
class Offer:
    """A voucher type with our copies of its organization and of a client, where there are any.

    `payment_methods` are the methods by which it can be paid now.
    """

    type: VoucherType
    organization: OrganizationCopy | None
    client: ClientCopy | None
    payment_methods: Sequence[PaymentMethod]


CONNECTED = "connected"
"""The status of an account that payments has connected to the installation's own."""

_WITHOUT_CARDS = [method for method in PaymentMethod if method is not PaymentMethod.CREDIT_CARD]


_ORGANIZATION = bindparam("organization_id", type_=BigInteger)
_FIELDS = dict(VoucherType.__table__.columns)
_TYPES = select().select_from(VoucherType).where(VoucherType.organization_id == _ORGANIZATION)
_LIST = JsonQuery(
    VoucherTypeRead,
    _TYPES,
    _FIELDS,
    filters={"is_active": VoucherType.is_active == bindparam("is_active", type_=Boolean)},
    order=(VoucherType.id,),
)
_DETAIL = JsonQuery(
    VoucherTypeRead,
    _TYPES.where(VoucherType.id == bindparam("voucher_type_id")),
    _FIELDS,
    facts={"version": VoucherType.version},
)


def _json(methods: Sequence[PaymentMethod]) -> ColumnElement[Any]:
    return literal_column(f"'{json.dumps(methods)}'::json", PreparedJson())


_TAKES_CARDS = or_(
    VoucherType.price == 0,  # nothing is charged
    exists().where(
        PaymentAccountCopy.organization_id == VoucherType.organization_id,
        PaymentAccountCopy.status == CONNECTED,
        PaymentAccountCopy.charges_enabled,
    ),
)
_PAYMENT_METHODS = {
    AccountMode.INSTALLATION: _json(list(PaymentMethod)),
    AccountMode.ORGANIZATION: case(
        (_TAKES_CARDS, _json(list(PaymentMethod))), else_=_json(_WITHOUT_CARDS)
    ),
}


def _offers(accounts: AccountMode) -> JsonQuery:
    return JsonQuery(
        AvailableVoucherType,
        select()
        .select_from(VoucherType)
        .join(OrganizationCopy, OrganizationCopy.id == VoucherType.organization_id)
        .where(VoucherType.is_active, OrganizationCopy.is_active),
        {
            **_FIELDS,
            "organization_name": OrganizationCopy.name,
            "timezone": OrganizationCopy.timezone,
            "payment_methods": _PAYMENT_METHODS[accounts],
        },
        filters={
            name: VoucherType.organization_id == bindparam(name, type_=BigInteger)
            for name in ("requested", "own")
        },
        order=(VoucherType.id,),
    )


_OFFERS = {accounts: _offers(accounts) for accounts in AccountMode}
_OFFERED = SelectedColumns(VoucherType, "t")
_SELLER = SelectedColumns(OrganizationCopy, "o", start=_OFFERED.end)
_BUYER = SelectedColumns(ClientCopy, "c", start=_SELLER.end)
_OFFER_TAKES_CARDS = {
    AccountMode.INSTALLATION: "true",
    AccountMode.ORGANIZATION: (
        "t.price = 0 OR EXISTS (SELECT FROM payment_account_copies a"
        f" WHERE a.organization_id = t.organization_id AND a.status = '{CONNECTED}'"
        " AND a.charges_enabled)"
    ),
}
_OFFER = {
    accounts: f"SELECT {_OFFERED.sql}, {_SELLER.sql}, {_BUYER.sql},"  # noqa: S608
    f" {takes_cards} AS takes_cards FROM voucher_types t"
    " LEFT JOIN organization_copies o ON o.id = t.organization_id"
    " LEFT JOIN client_copies c ON c.id = $2"
    " WHERE t.id = $1 FOR KEY SHARE OF t"
    for accounts, takes_cards in _OFFER_TAKES_CARDS.items()
}


async def get_organization(session: AsyncSession, organization_id: int) -> OrganizationCopy:
    """Return our copy of an organization; raises OrganizationNotFound."""
    return require(await session.get(OrganizationCopy, organization_id), OrganizationNotFound)


async def lock_organization(session: AsyncSession, organization_id: int) -> OrganizationCopy:
    """Return our copy of an organization, locked; raises OrganizationNotFound."""
    statement = select(OrganizationCopy).where(OrganizationCopy.id == organization_id)
    copy = await session.scalar(statement.with_for_update(key_share=True))
    return require(copy, OrganizationNotFound)


async def get_client(session: AsyncSession, client_id: int | None) -> ClientCopy:
    """Return our copy of a client; raises ClientNotFound."""
    copy = await session.scalar(select(ClientCopy).where(ClientCopy.id == client_id))
    return require(copy, ClientNotFound)


async def find_client(session: AsyncSession, client_id: int | None) -> ClientCopy | None:
    """Return our copy of a client, or None."""
    return await session.scalar(select(ClientCopy).where(ClientCopy.id == client_id))


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


async def lock_voucher_type(
    session: AsyncSession, organization_id: int, voucher_type_id: int
) -> VoucherType:
    """Return an organization's voucher type, locked for a change; raises VoucherTypeNotFound."""
    statement = select(VoucherType).where(
        VoucherType.organization_id == organization_id, VoucherType.id == voucher_type_id
    )
    statement = statement.with_for_update()
    return require(await session.scalar(statement), VoucherTypeNotFound)


async def lock_offer(
    session: AsyncSession,
    voucher_type_id: int,
    client_id: int,
    accounts: AccountMode,
    *,
    fetch_rows: Fetch = fetch,
) -> Offer | None:
    """Return a voucher type of any organization with our copies of its organization and a client.

    Returns None if there is no such type. The entities are detached. The type is locked against
    deletion, not against other purchases.
    """
    rows = await fetch_rows(session, _OFFER[accounts], voucher_type_id, client_id)
    if not rows:
        return None
    [row] = rows
    return Offer(
        _OFFERED.entity(row),
        _SELLER.optional_entity(row),
        _BUYER.optional_entity(row),
        list(PaymentMethod) if row["takes_cards"] else _WITHOUT_CARDS,
    )


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
    reader: Reader, page: Page, organization_id: int, *, is_active: bool | None
) -> bytes:
    """Return a page of an organization's voucher types as JSON, newest first."""
    return await _LIST.page(reader, page, organization_id=organization_id, is_active=is_active)


async def find_voucher_type(
    reader: Reader, organization_id: int, voucher_type_id: int
) -> Document | None:
    """Return an organization's voucher type as JSON with its version, or None."""
    return await _DETAIL.find(
        reader, organization_id=organization_id, voucher_type_id=voucher_type_id
    )


async def page_of_offers(
    reader: Reader,
    page: Page,
    accounts: AccountMode,
    *,
    requested: int | None,
    own: int | None,
) -> bytes:
    """Return a page of the voucher types on sale as JSON, newest first.

    Each of the two organizations must be the type's, if it is given.
    """
    return await _OFFERS[accounts].page(reader, page, requested=requested, own=own)
