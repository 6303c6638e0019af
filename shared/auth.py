"""The dependencies by which routes read who calls them: a signed-in user or a service."""

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
    """Return who is signed in, or None; a presented token must be valid all the same."""
    if credentials is None:
        return None
    verifier: TokenVerifier = request.app.state.verifier
    actor = await verifier.verify(credentials.credentials)
    # For what is written about the request afterwards: its log line, and its refusal.
    request.state.actor = actor
    return actor


OptionalActorDep = Annotated[Actor | None, Depends(find_actor)]


async def get_actor(actor: OptionalActorDep) -> Actor:
    """Return who is signed in; raises Unauthenticated when nobody is."""
    if actor is None:
        raise Unauthenticated
    return actor


ActorDep = Annotated[Actor, Depends(get_actor)]


async def get_calling_service(request: Request, credentials: Credentials) -> CallingService:
    """Return which service calls an internal route; raises Unauthenticated."""
    if credentials is None:
        raise Unauthenticated("This route is for Carnet's own services.")
    keys: Keys = request.app.state.internal_keys
    own_name: str = request.app.state.service
    caller = await verified_caller(credentials.credentials, keys, own_name)
    request.state.calling_service = caller.name
    return caller


CallingServiceDep = Annotated[CallingService, Depends(get_calling_service)]


@dataclass(frozen=True, slots=True)
class AllowedCallers:
    """A dependency of an internal route that refuses every service but the named ones."""

    names: frozenset[str]

    async def __call__(self, caller: CallingServiceDep) -> None:
        """Raise Forbidden when the calling service is not one of the route's callers."""
        if caller.name not in self.names:
            raise Forbidden(f"The service {caller.name} may not call this route.")


def called_by(*services: str) -> Any:
    """Return the dependency by which an internal route names the services that may call it.

    A valid service token proves who calls, not that the caller has any business on a route: without
    a list, a leak in one service would open every internal route of the others.
    """
    return Depends(AllowedCallers(frozenset(services)))
