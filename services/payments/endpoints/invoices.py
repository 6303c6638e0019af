"""Routes of invoices, credit notes and totals."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Depends, Header, Path, Query, Request, Response

from services.payments.documents import Logos, render
from services.payments.endpoints.negotiation import preferred
from services.payments.endpoints.views import totals_csv
from services.payments.errors import (
    InvoiceNotFound,
    NotAcceptable,
    OrganizationNotFound,
    PaymentNotFound,
)
from services.payments.models import Invoice, InvoiceKind
from services.payments.schemas import DayTotal, InvoiceRead, SeriesGaps
from services.payments.service import invoices
from shared import csv_files
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Day, Id
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep, WorkDep

PDF = "application/pdf"
JSON = "application/json"
CSV = "text/csv"
VARIES = {"Vary": "Accept"}

organization_routes = router(
    prefix="/api/organizations/{organization_id}",
    tags=["invoices"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)
payment_routes = router(
    prefix="/api/payments/{payment_id}",
    tags=["invoices"],
    responses=responses(Unauthenticated, PaymentNotFound, Invalid),
)

_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {PDF: {"schema": {"type": "string", "format": "binary"}}}},
    **responses(InvoiceNotFound, NotAcceptable),
}

Accept = Annotated[list[str] | None, Header(include_in_schema=False)]


def is_csv_preferred(form: str | None, accept: list[str] | None) -> bool:
    """Return whether a request prefers CSV to JSON, by `format` or else by `Accept`."""
    return (form or preferred(accept or [], (JSON, CSV))) in ("csv", CSV)


@dataclass(frozen=True, slots=True)
class InvoiceRenderer:
    """Returns invoices as JSON or PDF; `limit` bounds how many PDFs are rendered at once."""

    media_type: str
    logos: Logos
    limit: CapacityLimiter

    async def render(self, invoice: Invoice) -> InvoiceRead | Response:
        """Return a document. Call it with no transaction open: it may fetch the logo by HTTP."""
        document = InvoiceRead.model_validate(invoice)
        if self.media_type != PDF:
            return document
        logo = await self.logos.find(document.seller.logo_url)
        page = await anyio.to_thread.run_sync(render, document, logo, limiter=self.limit)
        name = "".join(c if c.isascii() and c.isalnum() else "-" for c in document.number)
        headers = {"Content-Disposition": f'inline; filename="{name}.pdf"'}
        return Response(page, media_type=PDF, headers=headers | VARIES)


async def _renderer(request: Request, response: Response, accept: Accept = None) -> InvoiceRenderer:
    """Return the renderer of the media type that `Accept` prefers; raises NotAcceptable."""
    response.headers.update(VARIES)
    media_type = preferred(accept or [], (JSON, PDF))
    if media_type is None:
        raise NotAcceptable(headers=VARIES)
    state = request.app.state
    return InvoiceRenderer(media_type, state.logos, state.document_limit)


RendererDep = Annotated[InvoiceRenderer, Depends(_renderer)]


@organization_routes.get("/invoices", response_model=list[InvoiceRead])
async def list_invoices(
    organization_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    kind: InvoiceKind | None = None,
) -> Response:
    """List an organization's invoices and credit notes, newest first."""
    body = await invoices.list_invoices(reader, actor, organization_id, page, kind)
    return json_response(response, body)


@organization_routes.get("/invoices/gaps", response_model=list[SeriesGaps])
async def find_gaps(
    organization_id: Id, reader: ReaderDep, actor: ActorDep, response: Response
) -> Response:
    """Prove that no number is missing: each series with its missing numbers."""
    body = await invoices.list_series(reader, actor, organization_id)
    return json_response(response, body)


@organization_routes.get("/invoices/{invoice_id}", response_model=InvoiceRead, responses=_DOCUMENT)
async def get_invoice_of_organization(
    organization_id: Id, invoice_id: Id, work: WorkDep, actor: ActorDep, renderer: RendererDep
) -> InvoiceRead | Response:
    """Show an invoice or credit note, as JSON or PDF by `Accept`."""
    document = await invoices.get_document(work, actor, organization_id, invoice_id)
    return await renderer.render(document)


@organization_routes.get(
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
    today = datetime.now(UTC).date()
    first = first or (last or today) - timedelta(days=30)
    # The days are the organization's own: tomorrow in UTC is today somewhere, and no later day is.
    last = last or today + timedelta(days=1)
    sums = await invoices.list_totals(session, actor, organization_id, first, last)
    is_csv = is_csv_preferred(form, accept)
    csv_files.check_bom(with_bom, is_csv=is_csv)
    rows = [DayTotal.model_validate(row, from_attributes=True) for row in sums]
    if is_csv:
        content = totals_csv(rows, with_bom=with_bom)
        return Response(content, media_type=csv_files.MEDIA_TYPE, headers=VARIES)
    response.headers.update(VARIES)
    return rows


@payment_routes.get("/invoice", response_model=InvoiceRead, responses=_DOCUMENT)
async def get_invoice(
    payment_id: Id, work: WorkDep, actor: ActorDep, renderer: RendererDep
) -> InvoiceRead | Response:
    """Show a payment's invoice, as JSON or PDF by `Accept`."""
    return await renderer.render(await invoices.get_invoice(work, actor, payment_id))


@payment_routes.get("/credit-notes", response_model=list[InvoiceRead])
async def list_credit_notes(
    payment_id: Id, reader: ReaderDep, actor: ActorDep, response: Response
) -> Response:
    """List the credit notes of a payment's refunds, oldest first."""
    body = await invoices.list_credit_notes(reader, actor, payment_id)
    return json_response(response, body)


@payment_routes.get("/credit-notes/{number}", response_model=InvoiceRead, responses=_DOCUMENT)
async def get_credit_note(
    payment_id: Id,
    number: Annotated[str, Path(pattern="^[A-Za-z0-9-]{1,100}$")],
    work: WorkDep,
    actor: ActorDep,
    renderer: RendererDep,
) -> InvoiceRead | Response:
    """Show a credit note by its number, as JSON or PDF by `Accept`."""
    return await renderer.render(await invoices.get_credit_note(work, actor, payment_id, number))
