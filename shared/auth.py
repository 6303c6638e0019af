"""The dependencies by which a route gets its caller: a signed-in user or a service."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from shared.actors import Actor, CallingService
from shared.errors import Forbidden, Unauthenticated
from shared.tokens import Keys, TokenVerifier, verified_caller

_bearer = HTTPBearer(auto_error=False, description="The access token of /api/auth/login")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def find_actor(request: Request, credentials: Credentials) -> Actor | None:
    """Return the signed-in user, or None without a token. Raises Unauthenticated for a bad one."""
    if credentials is None:
        return None
    verifier: TokenVerifier = request.app.state.verifier
    actor = await verifier.verify(credentials.credentials)
    # For the log line of the request and for its denial.
    request.state.actor = actor
    return actor


OptionalActorDep = Annotated[Actor | None, Depends(find_actor)]


async def get_actor(actor: OptionalActorDep) -> Actor:
    """Return the signed-in user. Raises Unauthenticated without a token."""
    if actor is None:
        raise Unauthenticated
    return actor


ActorDep = Annotated[Actor, Depends(get_actor)]


async def get_calling_service(request: Request, credentials: Credentials) -> CallingService:
    """Return the service that calls an internal route. Raises Unauthenticated."""
    if credentials is None:
        raise Unauthenticated(
            "This route is for Carnet's own services. Use the API of the gateway."
        )
    keys: Keys = request.app.state.internal_keys
    own_name: str = request.app.state.service
    caller = await verified_caller(credentials.credentials, keys, own_name)
    request.state.calling_service = caller.name
    return caller


CallingServiceDep = Annotated[CallingService, Depends(get_calling_service)]


@dataclass(frozen=True, slots=True)
class AllowedCallers:
    """A dependency of an internal route that refuses all services except the named ones."""

    names: frozenset[str]

    async def __call__(self, caller: CallingServiceDep) -> None:
        """Raise Forbidden when the calling service is not one of the route's callers."""
        if caller.name not in self.names:
            raise Forbidden(f"The service {caller.name} may not call this route.")


def called_by(*services: str) -> Any:
    """Return the dependency by which an internal route names the services that may call it.

    A valid service token proves only who calls. Without a list, a leaked key of one service would
    open every internal route of the others.
    """
    return Depends(AllowedCallers(frozenset(services)))
