"""What an organization's bookkeeper asks: totals of the days, and whether a number is missing."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal

from sqlalchemy import ColumnElement, and_, case, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import Invoice, InvoiceKind
from services.payments.schemas import DayTotal, SeriesGaps
from shared import csv_files

LONGEST_DAYS = 366

_COLUMNS = tuple(DayTotal.model_fields)
_CENT = Decimal("0.01")
_MISSING = text(
    "SELECT s.kind, s.year, s.last_sequence,"
    " (SELECT count(*) FROM invoices i WHERE i.organization_id = s.organization_id"
    "  AND i.kind = s.kind AND i.year = s.year) AS issued,"
    " ARRAY(SELECT n FROM generate_series(1, s.last_sequence) n WHERE NOT EXISTS ("
    "  SELECT 1 FROM invoices i WHERE i.organization_id = s.organization_id AND i.kind = s.kind"
    "  AND i.year = s.year AND i.sequence = n) ORDER BY n LIMIT 1000) AS missing"
    " FROM invoice_series s WHERE s.organization_id = :organization_id"
    " ORDER BY s.year DESC, s.kind DESC"
)


async def list_series_gaps(session: AsyncSession, organization_id: int) -> list[SeriesGaps]:
    """Return every series of an organization with the numbers that are missing in it: none."""
    rows = await session.execute(_MISSING, {"organization_id": organization_id})
    return [
        SeriesGaps(
            kind=row.kind,
            year=row.year,
            last_number=row.last_sequence,
            issued=row.issued,
            missing=list(row.missing),
        )
        for row in rows
    ]


async def list_day_totals(
    session: AsyncSession, organization_id: int, first: date, last: date
) -> list[DayTotal]:
    """Return what came in and went back on each day of the organization, both days included.

    Invoices and credit notes are what is counted: each is dated in the organization's own zone, in
    the transaction in which the money was taken or given back.
    """
    keys = (Invoice.issue_date, Invoice.currency, Invoice.payment_method)
    statement = (
        select(
            *keys,
            _number(InvoiceKind.INVOICE),
            _sum(InvoiceKind.INVOICE),
            _number(InvoiceKind.CREDIT_NOTE),
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
    return [_day_total(*row) for row in await session.execute(statement)]


def _number(kind: InvoiceKind) -> ColumnElement[int]:
    return func.count().filter(Invoice.kind == kind)


def _sum(kind: InvoiceKind) -> ColumnElement[Decimal]:
    return func.sum(case((Invoice.kind == kind, Invoice.total), else_=Decimal(0)))


def _day_total(
    day: date,
    currency: str,
    method: str,
    payments: int,
    paid: Decimal,
    refunds: int,
    refunded: Decimal,
) -> DayTotal:
    return DayTotal(
        day=day,
        currency=currency,
        payment_method=method,
        payments=payments,
        paid=paid,
        refunds=refunds,
        refunded=refunded,
        net=paid - refunded,
    )


def as_csv(rows: Iterable[DayTotal], *, with_bom: bool) -> bytes:
    """Return totals as comma-separated values with a line of names."""
    cells = ([_cell(getattr(row, name)) for name in _COLUMNS] for row in rows)
    return csv_files.head(_COLUMNS, with_bom=with_bom) + csv_files.lines(cells)


def _cell(value: object) -> object:
    return value.quantize(_CENT) if isinstance(value, Decimal) else value
