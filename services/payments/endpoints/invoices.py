"""Routes of invoices, credit notes and totals: parse, call, return."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Depends, Header, Path, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.documents import pdf
from services.payments.documents.logos import Logos
from services.payments.endpoints.negotiation import preferred
from services.payments.endpoints.organizations import require_view
from services.payments.errors import (
    InvoiceNotFound,
    NotAcceptable,
    OrganizationNotFound,
    PaymentNotFound,
)
from services.payments.models import Invoice, InvoiceKind
from services.payments.policies import can_see
from services.payments.queries import reports
from services.payments.schemas import DayTotal, InvoiceRead, SeriesGaps
from shared import csv_files
from shared.actors import Actor
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Day, Id
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import SessionDep, WorkDep

PDF = "application/pdf"
JSON = "application/json"
CSV = "text/csv"
VARIES = {"Vary": "Accept"}

of_organization = router(
    prefix="/api/organizations/{organization_id}",
    tags=["invoices"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)
of_payment = router(
    prefix="/api/payments/{payment_id}",
    tags=["invoices"],
    responses=responses(Unauthenticated, PaymentNotFound, Invalid),
)

_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {PDF: {"schema": {"type": "string", "format": "binary"}}}},
    **responses(InvoiceNotFound, NotAcceptable),
}


@dataclass(frozen=True, slots=True)
class Printing:
    """What documents are drawn with: the logos, and how many are drawn at once."""

    logos: Logos
    limit: CapacityLimiter


async def _printing(request: Request) -> Printing:
    return Printing(request.app.state.logos, request.app.state.document_limit)


Accept = Annotated[list[str] | None, Header(include_in_schema=False)]


async def _wanted(response: Response, accept: Accept = None) -> str:
    """Return the form that `Accept` prefers; raises NotAcceptable."""
    response.headers.update(VARIES)
    wanted = preferred(accept or [], (JSON, PDF))
    if wanted is None:
        raise NotAcceptable(headers=VARIES)
    return wanted


PrintingDep = Annotated[Printing, Depends(_printing)]
WantedDep = Annotated[str, Depends(_wanted)]


async def _shown(invoice: Invoice, wanted: str, printing: Printing) -> InvoiceRead | Response:
    """Show a document; call it with no transaction open: the logo comes from somewhere else."""
    shown = InvoiceRead.model_validate(invoice)
    if wanted != PDF:
        return shown
    logo = await printing.logos.find(shown.seller.logo_url)
    page = await anyio.to_thread.run_sync(pdf.render, shown, logo, limiter=printing.limit)
    headers = {"Content-Disposition": f'inline; filename="{_file_name(shown.number)}"'}
    return Response(page, media_type=PDF, headers=headers | VARIES)


def _file_name(number: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in number) + ".pdf"


@of_organization.get("/invoices")
async def list_invoices(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    kind: InvoiceKind | None = None,
) -> list[InvoiceRead]:
    """List an organization's invoices and credit notes, newest first."""
    require_view(actor, organization_id)
    rows = await queries.page_of_invoices(session, page, organization_id, kind)
    return [InvoiceRead.model_validate(row) for row in rows]


@of_organization.get("/invoices/gaps")
async def find_gaps(organization_id: Id, session: SessionDep, actor: ActorDep) -> list[SeriesGaps]:
    """Prove that no number is missing: each series with its missing numbers."""
    require_view(actor, organization_id)
    return await queries.list_series_gaps(session, organization_id)


@of_organization.get("/invoices/{invoice_id}", response_model=InvoiceRead, responses=_DOCUMENT)
async def get_invoice_of_organization(
    organization_id: Id,
    invoice_id: Id,
    work: WorkDep,
    actor: ActorDep,
    wanted: WantedDep,
    printing: PrintingDep,
) -> InvoiceRead | Response:
    """Show an invoice or credit note, as JSON or PDF by `Accept`."""
    require_view(actor, organization_id)
    async with work.begin() as session:
        document = await queries.get_document(session, organization_id, invoice_id)
    return await _shown(document, wanted, printing)


@of_organization.get(
    "/payments/totals",
    response_model=list[DayTotal],
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}}}},
)
async def get_totals(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    response: Response,
    first: Annotated[
        Day | None, Query(alias="from", description="Default: 30 days before `to`")
    ] = None,
    last: Annotated[Day | None, Query(alias="to", description="Included. Default: today")] = None,
    form: Annotated[Literal["json", "csv"] | None, Query(alias="format")] = None,
    with_bom: csv_files.WithBom = False,
    accept: Accept = None,
) -> list[DayTotal] | Response:
    """Total what was paid and given back per day of the organization, currency and method."""
    require_view(actor, organization_id)
    first, last = _span(first, last)
    if not timedelta(0) <= last - first <= timedelta(days=reports.LONGEST_DAYS):
        raise Invalid("to", f"must be from `from` to {reports.LONGEST_DAYS} days after it")
    is_csv = (form or preferred(accept or [], (JSON, CSV))) in ("csv", CSV)
    csv_files.check_bom(with_bom, is_csv=is_csv)
    rows = await queries.list_day_totals(session, organization_id, first, last)
    if is_csv:
        written = reports.as_csv(rows, with_bom=with_bom)
        return Response(written, media_type=csv_files.MEDIA_TYPE, headers=VARIES)
    response.headers.update(VARIES)
    return rows


def _span(first: date | None, last: date | None) -> tuple[date, date]:
    today = datetime.now(UTC).date()
    first = first or (last or today) - timedelta(days=30)
    # The days are the organization's own: tomorrow in UTC is today somewhere, and no later day is.
    return first, last or today + timedelta(days=1)


@of_payment.get("/invoice", response_model=InvoiceRead, responses=_DOCUMENT)
async def get_invoice(
    payment_id: Id, work: WorkDep, actor: ActorDep, wanted: WantedDep, printing: PrintingDep
) -> InvoiceRead | Response:
    """Show a payment's invoice, as JSON or PDF by `Accept`."""
    async with work.begin() as session:
        await _check_visible(session, actor, payment_id)
        invoice = await queries.get_invoice(session, payment_id)
    return await _shown(invoice, wanted, printing)


@of_payment.get("/credit-notes")
async def list_credit_notes(
    payment_id: Id, session: SessionDep, actor: ActorDep
) -> list[InvoiceRead]:
    """List the credit notes of a payment's refunds, oldest first."""
    await _check_visible(session, actor, payment_id)
    notes = await queries.credit_notes_of(session, payment_id)
    return [InvoiceRead.model_validate(note) for note in notes]


@of_payment.get("/credit-notes/{number}", response_model=InvoiceRead, responses=_DOCUMENT)
async def get_credit_note(
    payment_id: Id,
    number: Annotated[str, Path(pattern="^[A-Za-z0-9-]{1,100}$")],
    work: WorkDep,
    actor: ActorDep,
    wanted: WantedDep,
    printing: PrintingDep,
) -> InvoiceRead | Response:
    """Show a credit note by its number, as JSON or PDF by `Accept`."""
    async with work.begin() as session:
        await _check_visible(session, actor, payment_id)
        notes = await queries.credit_notes_of(session, payment_id)
    note = next((note for note in notes if note.number == number), None)
    if note is None:
        raise InvoiceNotFound
    return await _shown(note, wanted, printing)


async def _check_visible(session: AsyncSession, actor: Actor, payment_id: int) -> None:
    if not can_see(actor, await queries.get_payment(session, payment_id)):
        raise PaymentNotFound
