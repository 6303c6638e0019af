"""Queries of an organization's bookkeeping: totals of its days, and numbers that are missing."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Text,
    and_,
    bindparam,
    case,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import Invoice, InvoiceKind
from services.payments.schemas import SeriesGaps
from shared.reads import JsonQuery, Reader

_SERIES = (
    text(
        "SELECT s.kind, s.year, s.last_sequence AS last_number,"
        " (SELECT count(*) FROM invoices i WHERE i.organization_id = s.organization_id"
        "  AND i.kind = s.kind AND i.year = s.year) AS issued,"
        " ARRAY(SELECT n FROM generate_series(1, s.last_sequence) n WHERE NOT EXISTS ("
        "  SELECT 1 FROM invoices i WHERE i.organization_id = s.organization_id"
        "  AND i.kind = s.kind AND i.year = s.year AND i.sequence = n) ORDER BY n LIMIT 1000)"
        " AS missing FROM invoice_series s WHERE s.organization_id = :organization_id"
    )
    .bindparams(bindparam("organization_id", type_=BigInteger))
    .columns(
        kind=Text,
        year=BigInteger,
        last_number=BigInteger,
        issued=BigInteger,
        missing=ARRAY(BigInteger),
    )
    .subquery("series")
)
_GAPS = JsonQuery(
    SeriesGaps,
    select().select_from(_SERIES),
    dict(_SERIES.c),
    order=(_SERIES.c.year, _SERIES.c.kind),
)


async def list_series(reader: Reader, organization_id: int) -> bytes:
    """Return every series of an organization as JSON, with its missing numbers, the last first."""
    return await _GAPS.list(reader, organization_id=organization_id)


@dataclass(frozen=True, slots=True)
class DaySums:
    """What was paid and given back on one day of an organization, by currency and method."""

    day: date
    currency: str
    payment_method: str
    payments: int
    paid: Decimal
    refunds: int
    refunded: Decimal

    @property
    def net(self) -> Decimal:
        """What was paid less what was given back."""
        return self.paid - self.refunded


async def list_day_sums(
    session: AsyncSession, organization_id: int, first: date, last: date
) -> list[DaySums]:
    """Return what was paid and given back on each day of the organization, both days included.

    Invoices and credit notes are counted: each is dated in the organization's own time zone, in the
    transaction in which the money was taken or given back.
    """
    keys = (Invoice.issue_date, Invoice.currency, Invoice.payment_method)
    statement = (
        select(
            *keys,
            _count(InvoiceKind.INVOICE),
            _sum(InvoiceKind.INVOICE),
            _count(InvoiceKind.CREDIT_NOTE),
            _sum(InvoiceKind.CREDIT_NOTE),
        )
        .where(
            and_(
                Invoice.organization_id == organization_id,
                Invoice.issue_date.between(first, last),
            )
        )
        .group_by(*keys)
        .order_by(*keys)
    )
    return [DaySums(*row) for row in await session.execute(statement)]


def _count(kind: InvoiceKind) -> ColumnElement[int]:
    return func.count().filter(Invoice.kind == kind)


def _sum(kind: InvoiceKind) -> ColumnElement[Decimal]:
    return func.sum(case((Invoice.kind == kind, Invoice.total), else_=Decimal(0)))
