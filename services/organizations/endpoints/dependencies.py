"""What the routes of this service need beside a session."""

from typing import Annotated

from fastapi import Depends, Request

from shared.clients import ServiceClients


async def _clients(request: Request) -> ServiceClients:
    clients: ServiceClients = request.app.state.clients
    return clients


ClientsDep = Annotated[ServiceClients, Depends(_clients)]
