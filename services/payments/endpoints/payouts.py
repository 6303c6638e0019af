"""Routes of an organization's payouts and monthly statements."""

from typing import Annotated, Literal

from fastapi import Query, Response

from services.payments.endpoints.dependencies import GatewaysDep
from services.payments.endpoints.invoices import CSV, VARIES, Accept, is_csv_preferred
from services.payments.endpoints.views import csv_of
from services.payments.errors import OrganizationNotFound, PayoutNotFound, PayoutsNotAvailable
from services.payments.gateways import PayoutStatus
from services.payments.models import Reconciliation
from services.payments.queries import PayoutFilter
from services.payments.schemas.payouts import (
    PayoutDetail,
    PayoutLineRead,
    PayoutRead,
    StatementRead,
)
from services.payments.service import payouts
from shared import csv_files
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Id, Instant
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import ReaderDep

routes = router(
    prefix="/api/organizations/{organization_id}/payouts",
    tags=["payouts"],
    responses=responses(
        Unauthenticated, Forbidden, OrganizationNotFound, PayoutsNotAvailable, Invalid
    ),
)

_IN_CSV: dict[int | str, dict[str, object]] = {
    200: {"content": {CSV: {"schema": {"type": "string"}}}}
}
Format = Annotated[Literal["json", "csv"] | None, Query(alias="format")]
Month = Annotated[
    str | None,
    Query(
        pattern="^[1-8][0-9]{3}-(0[1-9]|1[0-2])$",
        description="A month of the organization's time zone, such as 2026-11; default: this one",
    ),
]


@routes.get("", response_model=list[PayoutRead])
async def list_payouts(
    organization_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    gateways: GatewaysDep,
    page: PageDep,
    response: Response,
    status: PayoutStatus | None = None,
    reconciliation: Reconciliation | None = None,
    since: Annotated[Instant | None, Query(alias="from")] = None,
    until: Annotated[Instant | None, Query(alias="to")] = None,
) -> Response:
    """List an organization's payouts that were initiated `from` until before `to`, newest first."""
    only = PayoutFilter(status, reconciliation, since, until)
    body = await payouts.list_payouts(reader, actor, gateways, organization_id, page, only)
    return json_response(response, body)


@routes.get("/statement", response_model=list[StatementRead], responses=_IN_CSV)
async def get_statement(
    organization_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    gateways: GatewaysDep,
    response: Response,
    month: Month = None,
    form: Format = None,
    with_bom: csv_files.WithBom = False,
    accept: Accept = None,
) -> Response:
    """Show the balance of a month: payments, refunds, fees, disputes, payouts, by currency."""
    as_csv = is_csv_preferred(form, accept)
    csv_files.check_bom(with_bom, is_csv=as_csv)
    body = await payouts.get_statement(reader, actor, gateways, organization_id, month)
    response.headers.update(VARIES)
    if as_csv:
        return csv_of(StatementRead, body, with_bom=with_bom, headers=VARIES)
    return json_response(response, body)


@routes.get(
    "/{payout_id}",
    response_model=PayoutDetail,
    responses={**_IN_CSV, **responses(PayoutNotFound)},
)
async def get_payout(
    organization_id: Id,
    payout_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    gateways: GatewaysDep,
    response: Response,
    form: Format = None,
    with_bom: csv_files.WithBom = False,
    accept: Accept = None,
) -> Response:
    """Show a payout with its lines; as CSV its lines alone."""
    as_csv = is_csv_preferred(form, accept)
    csv_files.check_bom(with_bom, is_csv=as_csv)
    body = await payouts.get_payout(reader, actor, gateways, organization_id, payout_id)
    response.headers.update(VARIES)
    if as_csv:
        return csv_of(PayoutLineRead, body, with_bom=with_bom, headers=VARIES, within="lines")
    return json_response(response, body)
