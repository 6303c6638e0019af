"""Queries of invoices, credit notes and their sellers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import InvoiceNotFound
from services.payments.models import (
    Invoice,
    InvoiceKind,
)
from services.payments.schemas import InvoiceRead
from shared.connections import execute_early, fetch
from shared.paging import Page
from shared.reads import JsonQuery, Reader


async def get_invoice(session: AsyncSession, payment_id: int) -> Invoice:
    """Return a payment's invoice; raises InvoiceNotFound."""
    invoice = await find_invoice(session, payment_id)
    if invoice is None:
        raise InvoiceNotFound
    return invoice


async def find_invoice(session: AsyncSession, payment_id: int) -> Invoice | None:
    """Return a payment's invoice, or None."""
    return await session.scalar(
        select(Invoice).where(
            Invoice.transaction_id == payment_id, Invoice.kind == InvoiceKind.INVOICE
        )
    )


async def lock_series(
    session: AsyncSession, payment_id: int, organization_id: int, kind: InvoiceKind
) -> None:
    """Keep other transactions from issuing a document of this kind for the organization.

    The payment that it is issued for is locked before, as everywhere: else there would be
    deadlocks. A lock of the series' row is not enough: there is one row per year, and the year is
    known later.
    """
    series = f"series/{int(organization_id)}/{InvoiceKind(kind)}"
    payment = f"SELECT 1 FROM payment_transactions WHERE id = {int(payment_id)} FOR UPDATE"  # noqa: S608
    # A subquery with FOR UPDATE is executed by itself: the payment is locked before the series.
    lock = f"SELECT pg_advisory_xact_lock(hashtextextended('{series}', 3)) FROM ({payment}) AS one"  # noqa: S608
    await execute_early(session, lock)


@dataclass(frozen=True, slots=True)
class IssueBasis:
    """What the next document of an organization depends on.

    `seller_changes` are the changed fields of the organization as they are now; `last` is when the
    document with the highest number was issued, and its date; `sequences` are the last numbers of
    the series of each year. `payment_version` is the version of the payment, which is locked.
    """

    seller_changes: dict[str, Any]
    last: tuple[datetime, date] | None
    sequences: Mapping[int, int]
    payment_version: int


_ISSUE_BASIS = """
SELECT
    (SELECT changes FROM seller_changes WHERE organization_id = $1) AS seller_changes,
    (SELECT jsonb_object_agg(year, last_sequence) FROM invoice_series
        WHERE organization_id = $1 AND kind = $2) AS sequences,
    (SELECT version FROM payment_transactions WHERE id = $3) AS payment_version,
    last.issued_at, last.issue_date
FROM (SELECT 1) AS one LEFT JOIN (
    SELECT issued_at, issue_date FROM invoices WHERE organization_id = $1 AND kind = $2
    ORDER BY year DESC, sequence DESC LIMIT 1
) AS last ON true
"""


async def get_issue_basis(
    session: AsyncSession, payment_id: int, organization_id: int, kind: InvoiceKind
) -> IssueBasis:
    """Return what an organization's next document of this kind depends on."""
    [row] = await fetch(session, _ISSUE_BASIS, organization_id, kind, payment_id)
    issued_at, sequences = row["issued_at"], row["sequences"] or {}
    return IssueBasis(
        seller_changes=row["seller_changes"] or {},
        last=(issued_at, row["issue_date"]) if issued_at else None,
        sequences={int(year): sequence for year, sequence in sequences.items()},
        payment_version=row["payment_version"],
    )


_LIST = JsonQuery(
    InvoiceRead,
    select().select_from(Invoice).where(Invoice.organization_id == bindparam("organization_id")),
    dict(Invoice.__table__.columns),
    filters={"kind": Invoice.kind == bindparam("kind")},
    order=(Invoice.id,),
)


async def page_of_invoices(
    reader: Reader, page: Page, organization_id: int, kind: InvoiceKind | None
) -> bytes:
    """Return a page of an organization's invoices and credit notes as JSON, newest first."""
    return await _LIST.page(reader, page, organization_id=organization_id, kind=kind)


_CREDIT_NOTES = JsonQuery(
    InvoiceRead,
    select()
    .select_from(Invoice)
    .where(
        Invoice.transaction_id == bindparam("payment_id"), Invoice.kind == InvoiceKind.CREDIT_NOTE
    ),
    dict(Invoice.__table__.columns),
    order=(Invoice.id,),
    newest_first=False,
)


async def list_credit_notes(reader: Reader, payment_id: int) -> bytes:
    """Return a payment's credit notes as JSON, oldest first."""
    return await _CREDIT_NOTES.list(reader, payment_id=payment_id)


async def get_document(session: AsyncSession, organization_id: int, invoice_id: int) -> Invoice:
    """Return an organization's invoice or credit note; raises InvoiceNotFound."""
    document = await session.get(Invoice, invoice_id)
    if document is None or document.organization_id != organization_id:
        raise InvoiceNotFound
    return document


async def credit_notes_of(session: AsyncSession, payment_id: int) -> Sequence[Invoice]:
    """Return a payment's credit notes, oldest first."""
    statement = select(Invoice).where(
        Invoice.transaction_id == payment_id, Invoice.kind == InvoiceKind.CREDIT_NOTE
    )
    return (await session.scalars(statement.order_by(Invoice.id))).all()
