"""What the routes of this service ask for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request, Response

from services.identity.models import User
from services.identity.schemas import UserRead
from services.identity.service.resources import Resources
from shared.actors import Actor
from shared.auth import ActorDep
from shared.context import request_origin
from shared.errors import Forbidden
from shared.preconditions import set_etag
from shared.sessions import honours_key, work_of
from shared.tenancy import NOTHING
from shared.work import Work


async def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(_resources)]


async def _anonymous_work(request: Request) -> Work:
    """Return a stranger's work: a stale access token must not stop a sign-in or a refresh."""
    return Work(request.app.state.transactions, request_origin(request), NOTHING, None)


AnonymousWorkDep = Annotated[Work, Depends(_anonymous_work)]


@honours_key
async def _anonymous_claimed_work(request: Request) -> AsyncIterator[Work]:
    async with asynccontextmanager(work_of)(request, None) as work:
        yield work


AnonymousClaimedWorkDep = Annotated[Work, Depends(_anonymous_claimed_work, scope="function")]
"""The same, with the request's Idempotency-Key honoured."""


async def _admin(actor: ActorDep) -> Actor:
    if not actor.is_admin:
        raise Forbidden("for administrators of the system")
    return actor


AdminDep = Annotated[Actor, Depends(_admin)]


def user_response(response: Response, user: User) -> UserRead:
    """Return a user as read, with its ETag."""
    set_etag(response, user.version)
    return UserRead.model_validate(user)
