"""The dependencies of this service's routes."""

from typing import Annotated

from fastapi import Depends, Request

from shared.clients import ServiceClients


async def _clients(request: Request) -> ServiceClients:
    clients: ServiceClients = request.app.state.clients
    return clients


ClientsDep = Annotated[ServiceClients, Depends(_clients)]
