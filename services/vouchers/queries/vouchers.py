"""Queries of vouchers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    CompoundSelect,
    ScalarSelect,
    Text,
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
from services.vouchers.schemas.vouchers import CodeRead, OrganizationVoucher, VoucherDetail
from shared.connections import fetch
from shared.detached import SelectedColumns
from shared.json_rows import json_list
from shared.paging import Page
from shared.reads import Document, FactsQuery, JsonQuery, Reader
from shared.text import contains

_ORGANIZATION = bindparam("organization_id", type_=BigInteger)
_FIELDS = {
    **Voucher.__table__.columns,
    "regular_sessions_left": (
        Voucher.total_sessions
        - Voucher.used_sessions
        - Voucher.refunded_sessions
        - Voucher.transferred_sessions
    ),
    "backup_sessions_left": Voucher.backup_sessions - Voucher.used_backup_sessions,
}
_OWN = [column.label(name) for name, column in _FIELDS.items()]
_CODES = json_list(
    CodeRead,
    select()
    .select_from(VoucherCode)
    .where(
        VoucherCode.organization_id == Voucher.organization_id,
        VoucherCode.voucher_id == Voucher.id,
    )
    .correlate(Voucher),
    dict(VoucherCode.__table__.columns),
    order=(VoucherCode.is_backup, VoucherCode.id),
)
_OF_ID = select().select_from(Voucher).where(Voucher.id == bindparam("voucher_id"))
_PARTIES = {
    "organization_id": Voucher.organization_id,
    "client_id": Voucher.client_id,
    "guardian_id": Voucher.guardian_id,
}
_DETAIL = JsonQuery(
    VoucherDetail,
    _OF_ID,
    {**_FIELDS, "codes": _CODES},
    facts={**_PARTIES, "version": Voucher.version},
)
_PARTIES_OF = FactsQuery(_OF_ID, _PARTIES)
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
_COLUMNS = SelectedColumns(Voucher, "v")
_WITH_ZONE = (
    f"SELECT {_COLUMNS.sql}, o.timezone FROM vouchers v"  # noqa: S608 - names of the model
    " LEFT JOIN organization_copies o ON o.id = v.organization_id WHERE v.id = $1"
)
_LOCKED_WITH_ZONE = f"{_WITH_ZONE} FOR UPDATE OF v"


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


async def find_detail(reader: Reader, voucher_id: int) -> Document | None:
    """Return a voucher with its codes as JSON, with its organization, client, guardian, version."""
    return await _DETAIL.find(reader, voucher_id=voucher_id)


async def find_parties(reader: Reader, voucher_id: int) -> Any:
    """Return the `organization_id`, `client_id` and `guardian_id` of a voucher, or None."""
    return await _PARTIES_OF.find(reader, voucher_id=voucher_id)


async def lock_voucher(session: AsyncSession, voucher_id: int) -> Voucher:
    """Return the current voucher, locked until the transaction ends; raises VoucherNotFound."""
    return require(await session.scalar(_LOCKED, {"voucher_id": voucher_id}), VoucherNotFound)


async def get_voucher_with_zone(
    session: AsyncSession, voucher_id: int
) -> tuple[Voucher, str | None]:
    """Return a voucher, detached, with its organization's time zone, None if there is no copy.

    Raises VoucherNotFound.
    """
    return _with_zone(await fetch(session, _WITH_ZONE, voucher_id))


async def lock_voucher_with_zone(
    session: AsyncSession, voucher_id: int
) -> tuple[Voucher, str | None]:
    """Return a voucher, detached and locked, with its organization's time zone.

    Raises VoucherNotFound.
    """
    return _with_zone(await fetch(session, _LOCKED_WITH_ZONE, voucher_id))


def _with_zone(rows: Sequence[Mapping[str, Any]]) -> tuple[Voucher, str | None]:
    if not rows:
        raise VoucherNotFound
    [row] = rows
    return _COLUMNS.entity(row), row["timezone"]


async def page_of_own_vouchers(
    session: AsyncSession, page: Page, client_id: int, *, status: str | None
) -> Rows:
    """Return a page of the vouchers of a client and of the client's dependants, newest first, with
    the day of each last session."""
    statement = (
        select(
            *_OWN,
            OrganizationCopy.name.label("organization_name"),
            OrganizationCopy.timezone,
            _last_session().label("last_session_date"),
        )
        .outerjoin(OrganizationCopy, OrganizationCopy.id == Voucher.organization_id)
        .where(or_(Voucher.client_id == client_id, Voucher.guardian_id == client_id))
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
    reader: Reader, page: Page, organization_id: int, filters: VoucherFilters
) -> bytes:
    """Return a page of an organization's vouchers, newest first."""
    return await _LIST.page(
        reader,
        page,
        organization_id=organization_id,
        client_id=filters.client_id,
        status=filters.status,
        voucher_type_id=filters.voucher_type_id,
        code=None if filters.code is None else list(spellings(filters.code)),
        text=filters.text,
        text_as_code=None if filters.text is None else list(spellings(filters.text)),
    )


def _clients_like(text: ColumnElement[str]) -> CompoundSelect[int]:
    """Select the clients with a text in their name or address: members of the organization, and
    other clients who have a voucher of it.

    These are two queries, because each has an index and both together have none.
    """
    matches = or_(contains(ClientCopy.name, text), contains(ClientCopy.email, text))
    of_organization = ClientCopy.organization_id == _ORGANIZATION
    holders = select(Voucher.client_id).where(Voucher.organization_id == _ORGANIZATION)
    return union_all(
        select(ClientCopy.id).where(of_organization, matches),
        select(ClientCopy.id).where(
            ClientCopy.organization_id.is_distinct_from(_ORGANIZATION),
            ClientCopy.id.in_(holders),
            matches,
        ),
    )


def _has_code(name: str) -> ColumnElement[bool]:
    """Return whether a voucher has a code of the list that the parameter contains."""
    codes = bindparam(name, type_=ARRAY(Text))
    statement = select(VoucherCode.voucher_id).where(
        VoucherCode.organization_id == _ORGANIZATION, VoucherCode.code == func.any(codes)
    )
    return Voucher.id.in_(statement)


_LIST = JsonQuery(
    OrganizationVoucher,
    select()
    .select_from(Voucher)
    .outerjoin(ClientCopy, ClientCopy.id == Voucher.client_id)
    .where(Voucher.organization_id == _ORGANIZATION),
    {**_FIELDS, "client_name": ClientCopy.name},
    filters={
        "client_id": Voucher.client_id == bindparam("client_id"),
        "status": Voucher.status == bindparam("status"),
        "voucher_type_id": Voucher.voucher_type_id == bindparam("voucher_type_id"),
        "code": _has_code("code"),
        "text": or_(
            Voucher.client_id.in_(_clients_like(bindparam("text", type_=Text))),
            _has_code("text_as_code"),
        ),
    },
    order=(Voucher.id,),
)


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
