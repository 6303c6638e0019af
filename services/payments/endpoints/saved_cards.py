"""Routes of the cards that clients store with organizations."""

from typing import Annotated

from fastapi import Query, Response

from services.payments.endpoints.dependencies import GatewaysDep
from services.payments.errors import (
    CardsNotAvailable,
    CardStorageUnavailable,
    OrganizationNotFound,
    SavedCardNotFound,
    SavedCardSettled,
)
from services.payments.schemas import SavedCardCreate, SavedCardRead
from services.payments.service import saved_cards
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, ServiceUnavailable, Unauthenticated, responses
from shared.fields import Id, QueryId
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import ReaderDep, WorkDep

routes = router(
    prefix="/api/payments/saved-cards",
    tags=["saved cards"],
    responses=responses(Unauthenticated, Invalid),
)
organization_routes = router(
    prefix="/api/organizations/{organization_id}/payments/saved-cards",
    tags=["saved cards"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


@routes.post(
    "",
    status_code=201,
    responses=responses(
        OrganizationNotFound, CardsNotAvailable, CardStorageUnavailable, ServiceUnavailable
    ),
)
async def save_card(
    body: SavedCardCreate, work: WorkDep, actor: ActorDep, gateways: GatewaysDep
) -> SavedCardRead:
    """Store an own card with an organization, for later payments that the client agrees to."""
    return SavedCardRead.model_validate(await saved_cards.save(work, actor, gateways, body))


@routes.get("", response_model=list[SavedCardRead])
async def list_my_saved_cards(
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    organization_id: Annotated[QueryId | None, Query()] = None,
) -> Response:
    """List one's own cards that are not removed, newest first."""
    body = await saved_cards.list_own(reader, actor, page, organization_id)
    return json_response(response, body)


@routes.post(
    "/{card_id}/confirm",
    responses=responses(SavedCardNotFound, Forbidden, SavedCardSettled, ServiceUnavailable),
)
async def confirm_saved_card(
    card_id: Id, work: WorkDep, actor: ActorDep, gateways: GatewaysDep
) -> SavedCardRead:
    """See what the bank's confirmation of an own card led to."""
    return SavedCardRead.model_validate(await saved_cards.confirm(work, actor, gateways, card_id))


@routes.delete("/{card_id}", status_code=204, responses=responses(SavedCardNotFound, Forbidden))
async def remove_saved_card(
    card_id: Id, work: WorkDep, actor: ActorDep, gateways: GatewaysDep
) -> None:
    """Remove an own card."""
    await saved_cards.remove(work, actor, gateways, card_id)


@organization_routes.get("", response_model=list[SavedCardRead])
async def list_saved_cards(
    organization_id: Id,
    reader: ReaderDep,
    actor: ActorDep,
    page: PageDep,
    response: Response,
    client_id: Annotated[QueryId | None, Query()] = None,
) -> Response:
    """List the cards that clients store with an organization, newest first."""
    body = await saved_cards.list_of_organization(reader, actor, organization_id, page, client_id)
    return json_response(response, body)


@organization_routes.delete("/{card_id}", status_code=204, responses=responses(SavedCardNotFound))
async def remove_saved_card_of_client(
    organization_id: Id, card_id: Id, work: WorkDep, actor: ActorDep, gateways: GatewaysDep
) -> None:
    """Remove the card of a client, as staff with `manage_payments`."""
    await saved_cards.remove(work, actor, gateways, card_id, organization_id=organization_id)
