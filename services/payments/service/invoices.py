"""Invoices and credit notes: numbered without a gap and in the order of time, frozen as issued."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import case, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from services.payments import access, queries
from services.payments.errors import InvoiceNotFound
from services.payments.models import (
    Invoice,
    InvoiceKind,
    InvoiceSeries,
    PaymentRow,
    PaymentTransaction,
    Refund,
    SellerChanges,
    row_of,
)
from services.payments.queries import DaySums
from shared.actors import Actor
from shared.db import now
from shared.errors import Invalid
from shared.paging import Page
from shared.reads import Reader
from shared.work import Work
from shared.writes import Writes

LONGEST_DAYS = 366
"""The longest span of days that totals are computed for."""

_COPIED = ("organization_id", "client_id", "currency", "payment_method", "buyer")
"""The columns that a document has of its payment."""

_MARK = {InvoiceKind.INVOICE: "", InvoiceKind.CREDIT_NOTE: "-CN"}


async def list_invoices(
    reader: Reader,
    actor: Actor,
    organization_id: int,
    page: Page,
    kind: InvoiceKind | None,
) -> bytes:
    """Return a page of an organization's invoices and credit notes as JSON, newest first.

    Raises OrganizationNotFound and Forbidden.
    """
    access.require_viewer(actor, organization_id)
    return await queries.page_of_invoices(reader, page, organization_id, kind)


async def list_series(reader: Reader, actor: Actor, organization_id: int) -> bytes:
    """Return every series of an organization as JSON with its missing numbers, which must be none.

    Raises OrganizationNotFound and Forbidden.
    """
    access.require_viewer(actor, organization_id)
    return await queries.list_series(reader, organization_id)


async def list_totals(
    session: AsyncSession, actor: Actor, organization_id: int, first: date, last: date
) -> list[DaySums]:
    """Return what was paid and given back on each day of the organization, both days included.

    Raises OrganizationNotFound, Forbidden, and Invalid for a span of more than LONGEST_DAYS days.
    """
    access.require_viewer(actor, organization_id)
    if not timedelta(0) <= last - first <= timedelta(days=LONGEST_DAYS):
        raise Invalid("to", f"must be from `from` to {LONGEST_DAYS} days after it")
    return await queries.list_day_sums(session, organization_id, first, last)


async def get_document(work: Work, actor: Actor, organization_id: int, invoice_id: int) -> Invoice:
    """Return an organization's invoice or credit note.

    Raises OrganizationNotFound, Forbidden and InvoiceNotFound.
    """
    access.require_viewer(actor, organization_id)
    async with work.begin() as session:
        return await queries.get_document(session, organization_id, invoice_id)


async def get_invoice(work: Work, actor: Actor, payment_id: int) -> Invoice:
    """Return a payment's invoice; raises PaymentNotFound and InvoiceNotFound."""
    async with work.begin() as session:
        access.require_visible(actor, await queries.get_payment(session, payment_id))
        return await queries.get_invoice(session, payment_id)


async def get_credit_note(work: Work, actor: Actor, payment_id: int, number: str) -> Invoice:
    """Return a payment's credit note by its number; raises PaymentNotFound and InvoiceNotFound."""
    async with work.begin() as session:
        access.require_visible(actor, await queries.get_payment(session, payment_id))
        for credit_note in await queries.credit_notes_of(session, payment_id):
            if credit_note.number == number:
                return credit_note
    raise InvoiceNotFound


async def list_credit_notes(reader: Reader, actor: Actor, payment_id: int) -> bytes:
    """Return a payment's credit notes as JSON, oldest first; raises PaymentNotFound."""
    access.require_visible(actor, await queries.get_parties(reader, payment_id))
    return await queries.list_credit_notes(reader, payment_id)


@dataclass(frozen=True, slots=True)
class DocumentDate:
    """When a document was issued, and its date in the organization's time zone."""

    issued_at: datetime
    issue_date: date

    @property
    def year(self) -> int:
        """The year of the series that numbers the document."""
        return self.issue_date.year


def date_document(moment: datetime, zone: ZoneInfo, *earlier: DocumentDate | None) -> DocumentDate:
    """Date a document that is issued now, and never before one of `earlier`.

    The organization's time zone may have moved west since the last document, or the clock of the
    instance that issued it may be ahead of ours: a later number would have an earlier date.
    """
    today = DocumentDate(moment, moment.astimezone(zone).date())
    dates = [today, *(each for each in earlier if each is not None)]
    return DocumentDate(
        issued_at=max(each.issued_at for each in dates),
        issue_date=max(each.issue_date for each in dates),
    )


async def add_invoice(writes: Writes, session: AsyncSession, payment: PaymentRow) -> str:
    """Add the invoice of a payment to the writes that mark it succeeded; return its number."""
    line = _line(payment["description"], str(payment["amount"]))
    return await _add_document(
        writes, session, payment, InvoiceKind.INVOICE, total=payment["amount"], lines=[line]
    )


async def issue_credit_note(
    session: AsyncSession, payment: PaymentTransaction, refund: Refund
) -> str | None:
    """Issue the credit note of a refund, in the transaction that marks it succeeded.

    Return its number, or None when there is no invoice to correct: nothing was sold for the money
    of a quarantined payment.
    """
    invoice = await queries.find_invoice(session, payment.id)
    if invoice is None:
        return None
    writes = Writes(session)
    number = await _add_document(
        writes,
        session,
        row_of(payment),
        InvoiceKind.CREDIT_NOTE,
        corrects=DocumentDate(invoice.issued_at, invoice.issue_date),
        total=refund.amount,
        lines=[_line(f"Refund: {payment.description}", str(refund.amount))],
        refund_id=refund.id,
        corrects_number=invoice.number,
    )
    await writes.send()
    return number


async def _add_document(
    writes: Writes,
    session: AsyncSession,
    payment: PaymentRow,
    kind: InvoiceKind,
    *,
    corrects: DocumentDate | None = None,
    **columns: Any,
) -> str:
    """Add a document to the writes; return its number. Raises StaleDataError.

    The payment must be as it was last committed or flushed.
    """
    organization_id = payment["organization_id"]
    # Read the time after the lock: a later number must not have an earlier date.
    await queries.lock_series(session, payment["id"], organization_id, kind)
    basis = await queries.get_issue_basis(session, payment["id"], organization_id, kind)
    if basis.payment_version != payment["version"]:
        # The payment's own write would find it too late: it may have this document already.
        raise StaleDataError(f"payment {payment['id']} was changed since it was read")
    seller = payment["seller"] | basis.seller_changes
    zone = ZoneInfo(str(seller.get("timezone") or "UTC"))
    last = DocumentDate(*basis.last) if basis.last else None
    document_date = date_document(now(), zone, last, corrects)
    sequence = basis.sequences.get(document_date.year, 0) + 1
    _add_sequence(writes, organization_id, kind, document_date.year, sequence)
    number = number_of(seller, kind, document_date.year, sequence)
    document = {
        **{name: payment[name] for name in _COPIED},
        "transaction_id": payment["id"],
        "kind": kind,
        "number": number,
        "year": document_date.year,
        "sequence": sequence,
        "issued_at": document_date.issued_at,
        "issue_date": document_date.issue_date,
        "seller": seller,
        **columns,
    }
    details = {"voucher_id": payment["voucher_id"]}
    writes.insert(Invoice, document, action="CREATE", details=details)
    return number


def _add_sequence(
    writes: Writes, organization_id: int, kind: InvoiceKind, year: int, sequence: int
) -> None:
    """Add the next number of a series, which is locked until the transaction ends.

    A sequence of the database would be faster and leave a gap at every rollback.
    """
    series = {"organization_id": organization_id, "kind": kind, "year": year}
    if sequence == 1:
        writes.insert_many(InvoiceSeries, [{**series, "last_sequence": sequence}])
    else:
        writes.update(InvoiceSeries, {"last_sequence": sequence}, where=series)


async def record_seller_changes(
    session: AsyncSession, organization_id: int, version: int, changes: dict[str, Any]
) -> None:
    """Record what changed of an organization; a change that arrives late undoes nothing newer."""
    statement = insert(SellerChanges).values(
        organization_id=organization_id, version=version, changes=changes
    )
    old, new = SellerChanges, statement.excluded
    changes_of_both = case(
        (new.version > old.version, old.changes.concat(new.changes)),
        else_=new.changes.concat(old.changes),
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["organization_id"],
            set_={"changes": changes_of_both, "version": func.greatest(old.version, new.version)},
        )
    )


def number_of(seller: Mapping[str, Any], kind: InvoiceKind, year: int, sequence: int) -> str:
    """Return a number: `PRAXIS-2026-000001`, or `PRAXIS-CN-2026-000001` for a credit note."""
    return f"{str(seller['slug']).upper()}{_MARK[kind]}-{year}-{sequence:06d}"


def _line(description: str, amount: str) -> dict[str, Any]:
    return {"description": description, "quantity": 1, "unit_price": amount, "amount": amount}
