"""The route that receives the payment gateways' webhooks."""

from typing import Annotated

from fastapi import Path, Request

from services.payments.endpoints.dependencies import GatewaysDep
from services.payments.errors import GatewayNotFound, WebhookNotVerified
from services.payments.service import webhooks
from shared.errors import Invalid, ServiceUnavailable, responses
from shared.routing import router
from shared.sessions import UnclaimedWorkDep

routes = router(signed=True, prefix="/api/payments/webhooks", tags=["payments"])

GatewayName = Annotated[str, Path(pattern="^[a-z]{1,50}$")]


@routes.post(
    "/{gateway_name}",
    responses=responses(GatewayNotFound, WebhookNotVerified, Invalid, ServiceUnavailable),
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}
    },
)
async def receive_webhook(
    gateway_name: GatewayName, request: Request, work: UnclaimedWorkDep, gateways: GatewaysDep
) -> dict[str, str]:
    """Take a payment gateway's signed webhook: 200 once it is stored, 400 if it is not theirs."""
    body, limit = await request.body(), request.app.state.webhook_limit
    is_new = await webhooks.receive(work, gateways, gateway_name, body, request.headers, limit)
    return {"status": "stored" if is_new else "known"}


@routes.post(
    "/{gateway_name}/connect",
    responses=responses(GatewayNotFound, WebhookNotVerified, Invalid, ServiceUnavailable),
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}
    },
)
async def receive_connect_webhook(
    gateway_name: GatewayName, request: Request, work: UnclaimedWorkDep, gateways: GatewaysDep
) -> dict[str, str]:
    """Take a gateway's signed webhook about the account of an organization."""
    body, limit = await request.body(), request.app.state.webhook_limit
    is_new = await webhooks.receive(
        work, gateways, gateway_name, body, request.headers, limit, connected=True
    )
    return {"status": "stored" if is_new else "known"}
