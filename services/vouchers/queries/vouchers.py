"""Selects of vouchers."""

from collections.abc import Sequence
from datetime import date, datetime
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
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies
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
from services.vouchers.queries.redemptions import spellings, stands
from services.vouchers.queries.rows import Rows, columns_of, found, position
from services.vouchers.schemas.vouchers import VoucherRead
from shared.actors import Actor
from shared.paging import Page
from shared.text import contains

# Columns of the table and not of the model, and statements that are put together once: a list pays
# for neither the ORM's way with entities nor for thirty columns that are looked through each time.
_VOUCHER = [
    *columns_of(Voucher, (n for n in VoucherRead.model_fields if not n.endswith("_left"))),
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
_LOCKED_WITH_ZONE = _LOCKED.add_columns(OrganizationCopy.timezone).outerjoin(
    OrganizationCopy, OrganizationCopy.id == Voucher.organization_id
)


async def get_voucher(session: AsyncSession, voucher_id: int) -> Voucher:
    """Return a voucher; raises VoucherNotFound."""
    return found(await session.get(Voucher, voucher_id), VoucherNotFound)


async def lock_voucher(session: AsyncSession, voucher_id: int) -> Voucher:
    """Return a voucher as it is now, locked until the transaction ends; raises VoucherNotFound."""
    return found(await session.scalar(_LOCKED, {"voucher_id": voucher_id}), VoucherNotFound)


async def lock_voucher_with_zone(
    session: AsyncSession, voucher_id: int
) -> tuple[Voucher, str | None]:
    """Return the same with the time zone of its organization, None where we have no copy."""
    row = (await session.execute(_LOCKED_WITH_ZONE, {"voucher_id": voucher_id})).one_or_none()
    voucher, zone = found(row, VoucherNotFound)
    return voucher, zone


def readable_by(actor: Actor) -> ColumnElement[bool]:
    """Return the condition that leaves the vouchers which an actor may read."""
    if actor.is_admin:
        return Voucher.id.is_not(None)
    own = Voucher.client_id == actor.user_id
    if actor.role in policies.EMPLOYED and actor.organization_id is not None:
        return or_(own, Voucher.organization_id == actor.organization_id)
    return own


async def find_readable(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher | None:
    """Return a voucher that an actor may read, or None."""
    statement = select(Voucher).where(Voucher.id == voucher_id, readable_by(actor))
    return await session.scalar(statement)


async def page_of_own_vouchers(
    session: AsyncSession, page: Page, client_id: int, *, status: str | None
) -> Rows:
    """Return a page of a client's own vouchers with the day of the last session of each."""
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
            stands(),
        )
        .correlate(Voucher)
        .scalar_subquery()
    )


async def page_of_vouchers(
    session: AsyncSession, page: Page, organization_id: int, **filters: Any
) -> Rows:
    """Return a page of an organization's vouchers, newest first.

    Filters: client_id, status, voucher_type_id, code (exact) and text (a part of the client's
    name or address, or a code).
    """
    statement = _LISTED.where(Voucher.organization_id == organization_id)
    for condition in _conditions(organization_id, **filters):
        statement = statement.where(condition)
    rows = (await session.execute(page.of(statement, Voucher.id))).all()
    return page.cut(rows, position)


def _conditions(
    organization_id: int,
    *,
    client_id: int | None = None,
    status: str | None = None,
    voucher_type_id: int | None = None,
    code: str | None = None,
    text: str | None = None,
) -> list[ColumnElement[bool]]:
    equal = {
        Voucher.client_id: client_id,
        Voucher.status: status,
        Voucher.voucher_type_id: voucher_type_id,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    if code is not None:
        conditions.append(_has_code(organization_id, code))
    if text is not None:
        named = Voucher.client_id.in_(_clients_like(organization_id, text))
        conditions.append(or_(named, _has_code(organization_id, text)))
    return conditions


def _clients_like(organization_id: int, text: str) -> CompoundSelect[int]:
    """Return the members and the buyers from elsewhere with this in their name or address.

    Apart from each other, because there is an index for each and none for both.
    """
    named = or_(contains(ClientCopy.name, text), contains(ClientCopy.email, text))
    of_organization = ClientCopy.organization_id == organization_id
    holders = select(Voucher.client_id).where(Voucher.organization_id == organization_id)
    return union_all(
        select(ClientCopy.id).where(of_organization, named),
        select(ClientCopy.id).where(
            ClientCopy.organization_id.is_distinct_from(organization_id),
            ClientCopy.id.in_(holders),
            named,
        ),
    )


def _has_code(organization_id: int, code: str) -> ColumnElement[bool]:
    statement = select(VoucherCode.voucher_id).where(
        VoucherCode.organization_id == organization_id, VoucherCode.code.in_(spellings(code))
    )
    return Voucher.id.in_(statement)


async def lock_run_out(
    session: AsyncSession, timezone: str, today: date, limit: int
) -> Sequence[Voucher]:
    """Return active vouchers whose last day is past in a time zone, locked, others' skipped."""
    statement = (
        select(Voucher)
        .join(OrganizationCopy, OrganizationCopy.id == Voucher.organization_id)
        .where(
            Voucher.status == VoucherStatus.ACTIVE.value,
            Voucher.valid_until < today,
            OrganizationCopy.timezone == timezone,
        )
        .limit(limit)
    )
    return (await session.scalars(statement.with_for_update(of=Voucher, skip_locked=True))).all()


async def unpaid_after(
    session: AsyncSession,
    after: int,
    *,
    cards_before: datetime,
    others_before: datetime,
    limit: int,
) -> Sequence[int]:
    """Return the ids, above `after`, of vouchers that wait for their money since before an instant.

    It is another one for those that are paid by card.
    """
    by_card = Voucher.payment_method == PaymentMethod.CREDIT_CARD.value
    since = case((by_card, cards_before), else_=others_before)
    statement = (
        select(Voucher.id)
        .where(
            Voucher.status == VoucherStatus.PENDING.value,
            Voucher.created_at < since,
            Voucher.id > after,
        )
        .order_by(Voucher.id)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()
