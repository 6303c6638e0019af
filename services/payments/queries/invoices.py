"""Queries of invoices, credit notes and their sellers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import bindparam, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.payments.errors import InvoiceNotFound
from services.payments.models import (
    Invoice,
    InvoiceKind,
    SellerChanges,
)
from services.payments.schemas import InvoiceRead
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


_LOCK_SERIES = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("name"), 3)))


async def lock_series(session: AsyncSession, organization_id: int, kind: InvoiceKind) -> None:
    """Keep other transactions from issuing a document of this kind for the organization.

    A lock of the series' row is not enough: there is one row per year, and the year is known later.
    """
    await session.execute(_LOCK_SERIES, {"name": f"series/{organization_id}/{kind}"})


@dataclass(frozen=True, slots=True)
class IssueBasis:
    """What the next document of an organization depends on.

    `seller_changes` are the changed fields of the organization as they are now; `last` is when the
    document with the highest number was issued, and its date.
    """

    seller_changes: dict[str, Any]
    last: tuple[datetime, date] | None


_EARLIER = aliased(Invoice)
_LAST_ID = (
    select(_EARLIER.id)
    .where(
        _EARLIER.organization_id == bindparam("organization_id"), _EARLIER.kind == bindparam("kind")
    )
    .order_by(_EARLIER.year.desc(), _EARLIER.sequence.desc())
    .limit(1)
    .scalar_subquery()
)
_SELLER_CHANGES = (
    select(SellerChanges.changes)
    .where(SellerChanges.organization_id == bindparam("organization_id"))
    .scalar_subquery()
)
_ISSUE_BASIS = (
    select(_SELLER_CHANGES, Invoice.issued_at, Invoice.issue_date)
    .select_from(select(literal(1)).subquery())
    .outerjoin(Invoice, Invoice.id == _LAST_ID)
)


async def get_issue_basis(
    session: AsyncSession, organization_id: int, kind: InvoiceKind
) -> IssueBasis:
    """Return what an organization's next document of this kind depends on."""
    parameters = {"organization_id": organization_id, "kind": kind}
    changes, issued_at, issue_date = (await session.execute(_ISSUE_BASIS, parameters)).one()
    return IssueBasis(changes or {}, (issued_at, issue_date) if issued_at else None)


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
