"""Queries of invoices, credit notes and their sellers."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import InvoiceNotFound
from services.payments.models import (
    Invoice,
    InvoiceKind,
    SellerChanges,
)
from shared.paging import Page


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


_LAST_DOCUMENT = (
    select(Invoice)
    .where(
        Invoice.organization_id == bindparam("organization_id"), Invoice.kind == bindparam("kind")
    )
    .order_by(Invoice.year.desc(), Invoice.sequence.desc())
    .limit(1)
)


async def find_last_document(
    session: AsyncSession, organization_id: int, kind: InvoiceKind
) -> Invoice | None:
    """Return the document with an organization's highest number of this kind, or None."""
    parameters = {"organization_id": organization_id, "kind": kind}
    return await session.scalar(_LAST_DOCUMENT, parameters)


async def page_of_invoices(
    session: AsyncSession, page: Page, organization_id: int, kind: InvoiceKind | None
) -> Sequence[Invoice]:
    """Return a page of an organization's invoices and credit notes, newest first."""
    statement = select(Invoice).where(Invoice.organization_id == organization_id)
    if kind is not None:
        statement = statement.where(Invoice.kind == kind)
    rows = (await session.scalars(page.of(statement, Invoice.id))).all()
    return page.cut(rows, lambda row: (row.id,))


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


_SELLER_CHANGES = select(SellerChanges.changes).where(
    SellerChanges.organization_id == bindparam("organization_id")
)


async def seller_changes_of(session: AsyncSession, organization_id: int) -> dict[str, Any]:
    """Return what changed of an organization, each field as it is now."""
    return await session.scalar(_SELLER_CHANGES, {"organization_id": organization_id}) or {}
