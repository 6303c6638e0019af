"""The routes that receive the payment gateways' webhooks."""

from typing import Annotated

from fastapi import Path, Request

from services.payments.endpoints.dependencies import GatewaysDep
from services.payments.errors import GatewayNotFound, WebhookNotVerified
from services.payments.gateways import Gateways
from services.payments.service import webhooks
from shared.errors import Invalid, ServiceUnavailable, responses
from shared.routing import router
from shared.sessions import UnclaimedWorkDep
from shared.work import Work

routes = router(signed=True, prefix="/api/payments/webhooks", tags=["payments"])

GatewayName = Annotated[str, Path(pattern="^[a-z]{1,50}$")]


ANSWERS = responses(GatewayNotFound, WebhookNotVerified, Invalid, ServiceUnavailable)
BODY = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}


@routes.post("/{gateway_name}", responses=ANSWERS, openapi_extra=BODY)
async def receive_webhook(
    gateway_name: GatewayName, request: Request, work: UnclaimedWorkDep, gateways: GatewaysDep
) -> dict[str, str]:
    """Take a payment gateway's signed webhook: 200 once it is stored, 400 if it is not theirs."""
    return await _receive(gateway_name, request, work, gateways, connected=False)


@routes.post("/{gateway_name}/connect", responses=ANSWERS, openapi_extra=BODY)
async def receive_connect_webhook(
    gateway_name: GatewayName, request: Request, work: UnclaimedWorkDep, gateways: GatewaysDep
) -> dict[str, str]:
    """Take a gateway's signed webhook about the account of an organization."""
    return await _receive(gateway_name, request, work, gateways, connected=True)


async def _receive(
    gateway_name: str, request: Request, work: Work, gateways: Gateways, *, connected: bool
) -> dict[str, str]:
    body, limit = await request.body(), request.app.state.webhook_limit
    is_new = await webhooks.receive(
        work, gateways, gateway_name, body, request.headers, limit, connected=connected
    )
    return {"status": "stored" if is_new else "known"}
