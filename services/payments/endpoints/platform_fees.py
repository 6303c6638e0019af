"""Routes of the operator's fee on an organization's payments."""

from fastapi import Response

from services.payments.errors import OrganizationNotFound
from services.payments.schemas.accounts import (
    PlatformFeeRead,
    PlatformFeeSet,
)
from services.payments.service import platform_fees
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Id
from shared.json_responses import json_response
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep

routes = router(
    prefix="/api/organizations/{organization_id}/platform-fee",
    tags=["payouts"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)


@routes.get("", response_model=PlatformFeeRead)
async def get_platform_fee(
    organization_id: Id, reader: ReaderDep, actor: ActorDep, response: Response
) -> Response:
    """Show what the operator takes of each card payment of an organization."""
    body = await platform_fees.get_platform_fee(reader, actor, organization_id)
    return json_response(response, body)


@routes.put("")
async def set_platform_fee(
    organization_id: Id, body: PlatformFeeSet, session: SessionDep, actor: ActorDep
) -> PlatformFeeRead:
    """Set what the operator takes of later card payments; for administrators of the system."""
    fee = await platform_fees.set_platform_fee(session, actor, organization_id, body)
    return PlatformFeeRead.model_validate(fee)
