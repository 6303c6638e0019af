"""Payouts and monthly statements as the JSON of their responses."""

from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Text, and_, bindparam, cast, func, literal, or_, select

from services.payments.gateways import LineKind, PayoutStatus
from services.payments.models import (
    PaymentAccount,
    PaymentTransaction,
    Payout,
    PayoutLine,
    Reconciliation,
    SellerChanges,
)
from services.payments.schemas.payouts import (
    PayoutDetail,
    PayoutLineRead,
    PayoutRead,
    StatementRead,
)
from shared.json_rows import json_list
from shared.paging import Page
from shared.reads import Document, JsonQuery, PreparedRead, Reader

_ORGANIZATION = bindparam("organization_id", type_=BigInteger)
_OWN = select().select_from(Payout).where(Payout.organization_id == _ORGANIZATION)
_COLUMNS = dict(Payout.__table__.columns)


@dataclass(frozen=True, slots=True)
class PayoutFilter:
    """Which payouts are listed: initiated from `since` until before `until`."""

    status: PayoutStatus | None = None
    reconciliation: Reconciliation | None = None
    since: datetime | None = None
    until: datetime | None = None


_LIST = JsonQuery(
    PayoutRead,
    _OWN,
    _COLUMNS,
    filters={
        "status": Payout.status == bindparam("status"),
        "reconciliation": Payout.reconciliation == bindparam("reconciliation"),
        "since": Payout.initiated_at >= bindparam("since"),
        "until": Payout.initiated_at < bindparam("until"),
    },
    order=(Payout.id,),
)
_LINES = json_list(
    PayoutLineRead,
    select()
    .select_from(PayoutLine)
    .where(PayoutLine.organization_id == Payout.organization_id, PayoutLine.payout_id == Payout.id)
    .correlate(Payout),
    dict(PayoutLine.__table__.columns),
    order=(PayoutLine.occurred_at, PayoutLine.id),
)
_DETAIL = JsonQuery(
    PayoutDetail,
    _OWN.where(Payout.id == bindparam("payout_id")),
    {**_COLUMNS, "lines": _LINES},
)


async def page_of_payouts(
    reader: Reader, page: Page, organization_id: int, only: PayoutFilter
) -> bytes:
    """Return a page of an organization's payouts as JSON, newest first."""
    return await _LIST.page(reader, page, organization_id=organization_id, **asdict(only))


async def find_payout_document(
    reader: Reader, organization_id: int, payout_id: int
) -> Document | None:
    """Return a payout of an organization with its lines as JSON, or None."""
    return await _DETAIL.find(reader, organization_id=organization_id, payout_id=payout_id)


def _in_month(amount: Any, *conditions: Any) -> Any:
    """Return the sum of lines of the month that fulfil the conditions."""
    is_counted = and_(PayoutLine.occurred_at >= bindparam("first"), *conditions)
    return func.coalesce(func.sum(amount).filter(is_counted), Decimal(0))


def _of(*kinds: LineKind) -> Any:
    """Return the sum of known lines of some kinds."""
    is_one_of = or_(*(PayoutLine.kind == kind for kind in kinds))
    return _in_month(_AMOUNT, is_one_of, PayoutLine.is_known)


_AMOUNT = PayoutLine.amount
_BEFORE = func.sum(PayoutLine.net).filter(PayoutLine.occurred_at < bindparam("first"))
_KEYS = (PayoutLine.gateway_account, PayoutLine.currency)
_STATEMENT = JsonQuery(
    StatementRead,
    select()
    .select_from(PayoutLine)
    .where(PayoutLine.organization_id == _ORGANIZATION, PayoutLine.occurred_at < bindparam("end"))
    .group_by(*_KEYS),
    {
        "month": cast(bindparam("month", type_=Text), Text),
        "time_zone": cast(bindparam("time_zone", type_=Text), Text),
        "gateway_account": PayoutLine.gateway_account,
        "currency": PayoutLine.currency,
        "opening_balance": func.coalesce(_BEFORE, Decimal(0)),
        "payments": _of(LineKind.PAYMENT),
        "refunds": _of(LineKind.REFUND, LineKind.REFUND_RETURN),
        "disputes": _of(LineKind.DISPUTE),
        "gateway_fees": _of(LineKind.GATEWAY_FEE) - _in_month(PayoutLine.gateway_fee),
        "platform_fees": -_in_month(PayoutLine.platform_fee),
        "payouts": _of(LineKind.PAYOUT, LineKind.PAYOUT_RETURN),
        "other": _in_month(_AMOUNT, ~PayoutLine.is_known),
        "closing_balance": func.sum(PayoutLine.net),
        "unknown_lines": func.count().filter(
            PayoutLine.occurred_at >= bindparam("first"), ~PayoutLine.is_known
        ),
    },
    order=_KEYS,
    newest_first=False,
)


async def list_statement(
    reader: Reader, organization_id: int, month: str, first: datetime, end: datetime, zone: str
) -> bytes:
    """Return the statement of a month as JSON, for each account and currency.

    The month is from `first` until before `end`, the beginning and end in the time zone `zone`.
    """
    return await _STATEMENT.list(
        reader,
        organization_id=organization_id,
        month=month,
        first=first,
        end=end,
        time_zone=zone,
    )


# The same as on invoices: as the organization is now, else as it was at its last payment.
_CHANGED_ZONE = (
    select(SellerChanges.changes["timezone"].astext)
    .where(SellerChanges.organization_id == _ORGANIZATION)
    .scalar_subquery()
)
_LAST_ZONE = (
    select(PaymentTransaction.seller["timezone"].astext)
    .where(PaymentTransaction.organization_id == _ORGANIZATION)
    .order_by(PaymentTransaction.id.desc())
    .limit(1)
    .scalar_subquery()
)
_TIME_ZONE = PreparedRead.of(select(func.coalesce(_CHANGED_ZONE, _LAST_ZONE, literal("UTC", Text))))


async def get_time_zone(reader: Reader, organization_id: int) -> str:
    """Return the time zone of an organization."""
    [row] = await reader.fetch(_TIME_ZONE, {"organization_id": organization_id})
    return str(row[0])


_HAS_ACCOUNT = PreparedRead.of(
    select(PaymentAccount.id).where(PaymentAccount.organization_id == _ORGANIZATION).limit(1)
)


async def has_any_account(reader: Reader, organization_id: int) -> bool:
    """Return whether an organization has an account of its own, or had one."""
    return bool(await reader.fetch(_HAS_ACCOUNT, {"organization_id": organization_id}))
