"""The dependencies of this service's routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request, Response

from services.identity.models import User
from services.identity.schemas.users import UserRead
from services.identity.service.resources import Resources
from shared.preconditions import set_etag
from shared.sessions import honours_key, unclaimed_work_of, work_of
from shared.work import Work


async def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(_resources)]


async def _anonymous_work(request: Request) -> Work:
    """Ignore the access token: an expired one must not prevent a sign-in or a refresh."""
    return await unclaimed_work_of(request, None)


AnonymousWorkDep = Annotated[Work, Depends(_anonymous_work)]
"""Transactions without an actor, for a request whose Idempotency-Key is ignored."""


@honours_key
async def _anonymous_claimed_work(request: Request) -> AsyncIterator[Work]:
    async with asynccontextmanager(work_of)(request, None) as work:
        yield work


AnonymousClaimedWorkDep = Annotated[Work, Depends(_anonymous_claimed_work, scope="function")]
"""Transactions without an actor, for a request whose Idempotency-Key is honoured."""


def user_response(response: Response, user: User) -> UserRead:
    """Return a user as clients read it, and set its ETag."""
    set_etag(response, user.version)
    return UserRead.model_validate(user)
