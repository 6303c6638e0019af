"""The dependencies of this service's routes."""

from typing import Annotated

from fastapi import Depends, Request

from services.payments.gateways import Gateways


async def _gateways(request: Request) -> Gateways:
    gateways: Gateways = request.app.state.gateways
    return gateways


GatewaysDep = Annotated[Gateways, Depends(_gateways)]
"""The payment gateways of this process."""
