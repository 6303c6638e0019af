"""Routes of calendar feeds, and of the calendars that their addresses lead to."""

import re
from typing import Annotated, Any

from fastapi import Header, Path, Response

from services.vouchers.endpoints.dependencies import AnonymousWorkDep, PublicUrlDep
from services.vouchers.errors import FeedNotFound, OrganizationNotFound, TooManyFeeds
from services.vouchers.schemas.feeds import FeedCreate, FeedCreated, FeedRead
from services.vouchers.service import feeds as service
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Id
from shared.json_responses import ResponseWithSecret
from shared.openapi import with_headers
from shared.paging import PageDep
from shared.preconditions import TaggedResponse
from shared.routing import router
from shared.sessions import SessionDep

feeds = router(
    prefix="/api/calendar-feeds",
    tags=["calendar feeds"],
    responses=responses(Unauthenticated, Invalid),
)
calendars = router(prefix="/api/calendars", tags=["calendar feeds"])

MEDIA_TYPE = "text/calendar; charset=utf-8"

_TAG = re.compile(r'(?:W/)?"([!#-~]*)"')
_CALENDAR: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The sessions of the feed (iCalendar, RFC 5545)",
        "content": {"text/calendar": {"schema": {"type": "string"}}},
    },
    304: with_headers({"description": "The calendar has not changed"}, "ETag"),
}


@feeds.post(
    "",
    status_code=201,
    response_model=FeedCreated,
    responses=responses(Forbidden, OrganizationNotFound, TooManyFeeds),
)
async def create_calendar_feed(
    body: FeedCreate, session: SessionDep, actor: ActorDep, public_url: PublicUrlDep
) -> Response:
    """Create a feed of the user's own sessions. Its address is shown once.

    Whoever has the address can read the feed. A repetition with the same Idempotency-Key returns
    the feed without its address; revoke it then and create another one.
    """
    feed, token = await service.create_feed(session, actor, body)
    address = f"{public_url or ''}/api/calendars/{token}.ics"
    values = feed.model_dump()
    return ResponseWithSecret(
        FeedCreated(**values, address=address).model_dump_json().encode(),
        repeated=FeedCreated(**values, address=None).model_dump_json().encode(),
        status_code=201,
    )


@feeds.get("")
async def list_calendar_feeds(
    session: SessionDep, actor: ActorDep, page: PageDep
) -> list[FeedRead]:
    """List the user's own feeds in every organization, newest first, without those revoked."""
    return await service.list_feeds(session, actor, page)


@feeds.delete("/{feed_id}", responses=responses(FeedNotFound))
async def revoke_calendar_feed(feed_id: Id, session: SessionDep, actor: ActorDep) -> dict[str, str]:
    """Revoke a feed: its address returns 404 from now on."""
    await service.revoke_feed(session, actor, feed_id)
    return {"message": "Calendar feed revoked successfully"}


@calendars.get(
    "/{token}.ics",
    response_class=Response,
    responses={**_CALENDAR, **responses(FeedNotFound)},
)
async def read_calendar(
    token: Annotated[
        str,
        Path(
            description="The token of the feed's address",
            json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
        ),
    ],
    work: AnonymousWorkDep,
    response: TaggedResponse,
    if_none_match: Annotated[
        str | None, Header(description="The ETag of the calendar that the client has")
    ] = None,
) -> Response:
    """Return the sessions of a feed, from 30 days ago to a year ahead, as iCalendar.

    Whoever has the address can read it; there is no other sign-in.
    """
    calendar = await service.read_feed(work, token, _tags_of(if_none_match or ""))
    response.headers["ETag"] = f'"{calendar.tag}"'
    # Calendars belong to one user, and a client compares its copy at each use.
    response.headers["Cache-Control"] = "private, no-cache"
    if calendar.content is None:
        response.status_code = 304
        return response
    response.status_code = 200
    response.body = calendar.content
    response.headers["Content-Type"] = MEDIA_TYPE
    response.headers["Content-Length"] = str(len(calendar.content))
    return response


def _tags_of(header: str) -> frozenset[str]:
    """Return the tags of If-None-Match, which compares weakly (RFC 9110, section 13.1.2)."""
    if header.strip() == "*":
        return frozenset({"*"})
    return frozenset(_TAG.findall(header))
