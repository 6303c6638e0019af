"""Queries of vouchers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    ScalarSelect,
    bindparam,
    case,
    func,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import VoucherNotFound
from services.vouchers.models import (
    ClientCopy,
    OrganizationCopy,
    PaymentMethod,
    Redemption,
    Voucher,
    VoucherCode,
    VoucherStatus,
)
from services.vouchers.queries.redemptions import is_in_force, spellings
from services.vouchers.queries.rows import Rows, position, require
from shared.paging import Page
from shared.text import contains

# A list selects columns of the table instead of entities, and its statement is built once: both
# save the time that the ORM needs for entities of thirty columns.
_VOUCHER = [
    *Voucher.__table__.columns,
    (Voucher.total_sessions - Voucher.used_sessions - Voucher.refunded_sessions).label(
        "regular_sessions_left"
    ),
    (Voucher.backup_sessions - Voucher.used_backup_sessions).label("backup_sessions_left"),
]
_LISTED = select(*_VOUCHER, ClientCopy.name.label("client_name")).outerjoin(
    ClientCopy, ClientCopy.id == Voucher.client_id
)
_LOCKED = (
    select(Voucher)
    .where(Voucher.id == bindparam("voucher_id"))
    .with_for_update(of=Voucher)
    .execution_options(populate_existing=True)
)
_SETTLED = text(
    "SELECT paid.key FROM vouchers v JOIN unnest(CAST(:keys AS text[]), CAST(:ids AS bigint[]),"
    " CAST(:amounts AS numeric[]), CAST(:currencies AS text[]), CAST(:numbers AS text[]))"
    " AS paid (key, voucher_id, amount, currency, number)"
    " ON v.id = paid.voucher_id AND v.payment_amount = paid.amount"
    " AND v.currency = paid.currency AND v.invoice_number = paid.number"
    " WHERE v.payment_date IS NOT NULL"
)
_LOCKED_WITH_ZONE = _LOCKED.add_columns(OrganizationCopy.timezone).outerjoin(
    OrganizationCopy, OrganizationCopy.id == Voucher.organization_id
)


async def list_settled(
    session: AsyncSession, payments: Sequence[tuple[str, int, Decimal, str, str]]
) -> set[str]:
    """Return the keys of the payments that their vouchers show. Nothing is locked.

    A payment is a key, the voucher's id, the amount, the currency and the invoice's number.
    """
    names = ("keys", "ids", "amounts", "currencies", "numbers")
    columns = zip(*payments, strict=True)
    parameters = {name: list(values) for name, values in zip(names, columns, strict=True)}
    return set(await session.scalars(_SETTLED, parameters))


async def find_voucher(session: AsyncSession, voucher_id: int) -> Voucher | None:
    """Return a voucher, or None."""
    return await session.get(Voucher, voucher_id)


async def get_voucher(session: AsyncSession, voucher_id: int) -> Voucher:
    """Return a voucher; raises VoucherNotFound."""
    return require(await find_voucher(session, voucher_id), VoucherNotFound)


async def lock_voucher(session: AsyncSession, voucher_id: int) -> Voucher:
    """Return the current voucher, locked until the transaction ends; raises VoucherNotFound."""
    return require(await session.scalar(_LOCKED, {"voucher_id": voucher_id}), VoucherNotFound)


async def lock_voucher_with_zone(
    session: AsyncSession, voucher_id: int
) -> tuple[Voucher, str | None]:
    """Return a voucher, locked, with its organization's time zone, None if there is no copy.

    Raises VoucherNotFound.
    """
    row = (await session.execute(_LOCKED_WITH_ZONE, {"voucher_id": voucher_id})).one_or_none()
    voucher, zone = require(row, VoucherNotFound)
    return voucher, zone


async def page_of_own_vouchers(
    session: AsyncSession, page: Page, client_id: int, *, status: str | None
) -> Rows:
    """Return a page of a client's vouchers, newest first, with the day of each last session."""
    statement = (
        select(
            *_VOUCHER,
            OrganizationCopy.name.label("organization_name"),
            OrganizationCopy.timezone,
            _last_session().label("last_session_date"),
        )
        .outerjoin(OrganizationCopy, OrganizationCopy.id == Voucher.organization_id)
        .where(Voucher.client_id == client_id)
    )
    if status is not None:
        statement = statement.where(Voucher.status == status)
    rows = (await session.execute(page.of(statement, Voucher.id))).all()
    return page.cut(rows, position)


def _last_session() -> ScalarSelect[Any]:
    return (
        select(func.max(Redemption.session_date))
        .where(
            Redemption.organization_id == Voucher.organization_id,
            Redemption.voucher_id == Voucher.id,
            is_in_force(),
        )
        .correlate(Voucher)
        .scalar_subquery()
    )


@dataclass(frozen=True, slots=True)
class VoucherFilters:
    """Which vouchers a list contains. `code` is a whole code in any spelling; `text` is a part of
    the client's name or e-mail address, or a whole code."""

    client_id: int | None = None
    status: VoucherStatus | None = None
    voucher_type_id: int | None = None
    code: str | None = None
    text: str | None = None


async def page_of_vouchers(
    session: AsyncSession, page: Page, organization_id: int, filters: VoucherFilters
) -> Rows:
    """Return a page of an organization's vouchers, newest first."""
    statement = _LISTED.where(Voucher.organization_id == organization_id)
    equal = {
        Voucher.client_id: filters.client_id,
        Voucher.status: filters.status,
        Voucher.voucher_type_id: filters.voucher_type_id,
    }
    for column, value in equal.items():
        if value is not None:
            statement = statement.where(column == value)
    if filters.code is not None:
        statement = statement.where(_has_code(organization_id, filters.code))
    if filters.text is not None:
        by_client = Voucher.client_id.in_(_clients_like(organization_id, filters.text))
        statement = statement.where(or_(by_client, _has_code(organization_id, filters.text)))
    rows = (await session.execute(page.of(statement, Voucher.id))).all()
    return page.cut(rows, position)


def _clients_like(organization_id: int, text: str) -> CompoundSelect[int]:
    """Select the clients with a text in their name or address: members of the organization, and
    other clients who have a voucher of it.

    These are two queries, because each has an index and both together have none.
    """
    matches = or_(contains(ClientCopy.name, text), contains(ClientCopy.email, text))
    of_organization = ClientCopy.organization_id == organization_id
    holders = select(Voucher.client_id).where(Voucher.organization_id == organization_id)
    return union_all(
        select(ClientCopy.id).where(of_organization, matches),
        select(ClientCopy.id).where(
            ClientCopy.organization_id.is_distinct_from(organization_id),
            ClientCopy.id.in_(holders),
            matches,
        ),
    )


def _has_code(organization_id: int, code: str) -> ColumnElement[bool]:
    statement = select(VoucherCode.voucher_id).where(
        VoucherCode.organization_id == organization_id, VoucherCode.code.in_(spellings(code))
    )
    return Voucher.id.in_(statement)


async def lock_vouchers_to_expire(
    session: AsyncSession, timezone: str, today: date, limit: int
) -> Sequence[Voucher]:
    """Return active vouchers whose last day is over in a time zone, locked.

    Vouchers that another transaction has locked are skipped.
    """
    statement = (
        select(Voucher)
        .join(OrganizationCopy, OrganizationCopy.id == Voucher.organization_id)
        .where(
            Voucher.status == VoucherStatus.ACTIVE,
            Voucher.valid_until < today,
            OrganizationCopy.timezone == timezone,
        )
        .limit(limit)
    )
    return (await session.scalars(statement.with_for_update(of=Voucher, skip_locked=True))).all()


async def list_unpaid_ids(
    session: AsyncSession,
    after: int,
    *,
    cards_before: datetime,
    others_before: datetime,
    limit: int,
) -> Sequence[int]:
    """Return the ids above `after` of pending vouchers that were created before an instant.

    The instant is `cards_before` for vouchers to be paid by card, and `others_before` for others.
    """
    by_card = Voucher.payment_method == PaymentMethod.CREDIT_CARD
    created_before = case((by_card, cards_before), else_=others_before)
    statement = (
        select(Voucher.id)
        .where(
            Voucher.status == VoucherStatus.PENDING,
            Voucher.created_at < created_before,
            Voucher.id > after,
        )
        .order_by(Voucher.id)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()
