"""Invoices and credit notes: numbered without a gap and in the order of time, frozen as issued."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import case, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.models import (
    Invoice,
    InvoiceKind,
    InvoiceSeries,
    PaymentTransaction,
    Refund,
    SellerChanges,
)
from shared.changes import record
from shared.db import now

_MARK = {InvoiceKind.INVOICE: "", InvoiceKind.CREDIT_NOTE: "-CN"}


@dataclass(frozen=True, slots=True)
class Dating:
    """When a document was issued, and its date in the organization's time zone."""

    issued_at: datetime
    issue_date: date

    @property
    def year(self) -> int:
        """The year of the series that numbers the document."""
        return self.issue_date.year


def dating(moment: datetime, zone: ZoneInfo, *earlier: Dating | None) -> Dating:
    """Date a document that is issued now, and never before one of `earlier`.

    The organization's time zone may have moved west since the last document, or the clock of the
    instance that issued it may be ahead of ours: numbers would run against the dates.
    """
    today = Dating(moment, moment.astimezone(zone).date())
    all_ = [today, *(one for one in earlier if one is not None)]
    return Dating(
        issued_at=max(one.issued_at for one in all_),
        issue_date=max(one.issue_date for one in all_),
    )


async def issue(session: AsyncSession, payment: PaymentTransaction) -> Invoice:
    """Issue the invoice of a payment, in the transaction that marks it succeeded."""
    line = _line(payment.description, str(payment.amount))
    return await _issue(session, payment, InvoiceKind.INVOICE, total=payment.amount, lines=[line])


async def credit(
    session: AsyncSession, payment: PaymentTransaction, refund: Refund
) -> Invoice | None:
    """Issue the credit note of a refund, in the transaction that marks it succeeded.

    None when there is no invoice to correct: the money of a quarantined payment was never sold for.
    """
    invoice = await queries.find_invoice(session, payment.id)
    if invoice is None:
        return None
    return await _issue(
        session,
        payment,
        InvoiceKind.CREDIT_NOTE,
        corrected=invoice,
        total=refund.amount,
        lines=[_line(f"Refund: {payment.description}", str(refund.amount))],
        refund_id=refund.id,
        corrects_number=invoice.number,
    )


async def _issue(
    session: AsyncSession,
    payment: PaymentTransaction,
    kind: InvoiceKind,
    *,
    corrected: Invoice | None = None,
    **columns: Any,
) -> Invoice:
    # The lock before the time: whoever waits for it must not have taken its time already.
    await queries.lock_series(session, payment.organization_id, kind)
    seller = payment.seller | await queries.seller_changes_of(session, payment.organization_id)
    last = await queries.find_last_document(session, payment.organization_id, kind)
    dated = dating(now(), _zone(seller), _dating_of(last), _dating_of(corrected))
    sequence = await _next(session, payment.organization_id, kind, dated.year)
    invoice = Invoice(
        organization_id=payment.organization_id,
        client_id=payment.client_id,
        transaction_id=payment.id,
        kind=kind,
        number=number_of(seller, kind, dated.year, sequence),
        year=dated.year,
        sequence=sequence,
        issued_at=dated.issued_at,
        issue_date=dated.issue_date,
        currency=payment.currency,
        payment_method=payment.payment_method,
        seller=seller,
        buyer=payment.buyer,
        **columns,
    )
    session.add(invoice)
    record(session, "CREATE", invoice, voucher_id=payment.voucher_id)
    return invoice


def _dating_of(document: Invoice | None) -> Dating | None:
    return Dating(document.issued_at, document.issue_date) if document else None


async def _next(session: AsyncSession, organization_id: int, kind: InvoiceKind, year: int) -> int:
    """Take the next number of a series; `queries.lock_series` comes first.

    The series' row stays locked until the transaction ends: a sequence of the database would be
    faster and leave a gap at every rollback.
    """
    first = {
        "organization_id": organization_id,
        "kind": kind,
        "year": year,
        "last_sequence": 1,
    }
    statement = (
        insert(InvoiceSeries)
        .values(first)
        .on_conflict_do_update(
            index_elements=["organization_id", "kind", "year"],
            set_={"last_sequence": InvoiceSeries.last_sequence + 1},
        )
        .returning(InvoiceSeries.last_sequence)
    )
    return int((await session.execute(statement)).scalar_one())


async def seller_changed(
    session: AsyncSession, organization_id: int, version: int, changes: dict[str, Any]
) -> None:
    """Note what changed of an organization; a change that comes late takes nothing newer back."""
    statement = insert(SellerChanges).values(
        organization_id=organization_id, version=version, changes=changes
    )
    known, new = SellerChanges, statement.excluded
    merged = case(
        (new.version > known.version, known.changes.concat(new.changes)),
        else_=new.changes.concat(known.changes),
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["organization_id"],
            set_={"changes": merged, "version": func.greatest(known.version, new.version)},
        )
    )


def number_of(seller: Mapping[str, Any], kind: InvoiceKind, year: int, sequence: int) -> str:
    """Return a number: `PRAXIS-2026-000001`, or `PRAXIS-CN-2026-000001` for a credit note."""
    return f"{str(seller['slug']).upper()}{_MARK[kind]}-{year}-{sequence:06d}"


def _zone(seller: Mapping[str, Any]) -> ZoneInfo:
    return ZoneInfo(str(seller.get("timezone") or "UTC"))


def _line(description: str, amount: str) -> dict[str, Any]:
    return {"description": description, "quantity": 1, "unit_price": amount, "amount": amount}
