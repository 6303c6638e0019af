"""Use cases of calendar feeds: subscriptions to one's own sessions."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import FeedNotFound, OrganizationNotFound, TooManyFeeds
from services.vouchers.models import CalendarFeed, ClientCopy, FeedDetail, FeedScope
from services.vouchers.scheduling.ics import CalendarEvent, write_feed
from services.vouchers.schemas.feeds import FeedCreate, FeedRead
from services.vouchers.service.booking_settings import settings_of
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Forbidden, Invalid
from shared.paging import Page
from shared.tenancy import Tenant, limit_to, see_all_tenants
from shared.version import VERSION
from shared.work import Work

MOST_FEEDS = 20
TOKEN_BYTES = 32
UID_DOMAIN = "carnet"
"""The domain of the events' UIDs, by which events of our own feeds are recognized elsewhere."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_UNTITLED = "Session"
_NO_DETAILS: Mapping[str, Any] = {"title": None, "people": None, "rooms": None}


@dataclass(frozen=True, slots=True)
class CalendarFile:
    """A feed in the format iCalendar; `content` is None if the reader has it already."""

    tag: str
    content: bytes | None


async def create_feed(
    session: AsyncSession, actor: Actor, body: FeedCreate
) -> tuple[FeedRead, str]:
    """Create a feed of the actor's sessions; return it and its token, which is not stored.

    Raises OrganizationNotFound, Forbidden, TooManyFeeds, and Invalid without an organization.
    """
    organization_id = body.organization_id or actor.organization_id
    if organization_id is None:
        raise Invalid("organization_id", "is needed for a user without an organization")
    if not policies.can_subscribe(actor, organization_id):
        raise OrganizationNotFound
    await queries.get_organization(session, organization_id)
    is_therapist = policies.is_therapist(actor, organization_id)
    scope = body.scope or (FeedScope.THERAPIST if is_therapist else FeedScope.CLIENT)
    if scope == FeedScope.THERAPIST:
        await _require_therapist(session, actor, organization_id, body.detail)
    await see_all_tenants(session)
    await queries.lock_new_feeds(session, actor.user_id)
    if await queries.count_feeds(session, actor.user_id) >= MOST_FEEDS:
        raise TooManyFeeds
    token = secrets.token_urlsafe(TOKEN_BYTES)
    feed = CalendarFeed(
        organization_id=organization_id,
        user_id=actor.user_id,
        scope=scope,
        detail=body.detail,
        token_hash=_digest(token),
    )
    session.add(feed)
    record(session, "CREATE", feed)
    await session.flush()
    return FeedRead.model_validate(feed), token


async def _require_therapist(
    session: AsyncSession, actor: Actor, organization_id: int, detail: FeedDetail
) -> None:
    """Raise Forbidden unless the actor gives sessions, and may have the names of clients."""
    if await queries.find_therapist(session, organization_id, actor.user_id) is None:
        raise Forbidden("Only therapists of the organization have a feed of what they give.")
    settings = await settings_of(session, organization_id)
    if detail == FeedDetail.NAMES and not settings.feed_names:
        raise Forbidden("The organization allows no names of clients in calendar feeds.")


async def list_feeds(session: AsyncSession, actor: Actor, page: Page) -> list[FeedRead]:
    """Return a page of the actor's feeds in every organization, newest first."""
    await see_all_tenants(session)
    rows = await queries.page_of_feeds(session, page, actor.user_id)
    return [FeedRead.model_validate(row) for row in rows]


async def revoke_feed(session: AsyncSession, actor: Actor, feed_id: int) -> None:
    """Revoke a feed of the actor: its address is unknown from now on. Raises FeedNotFound."""
    await see_all_tenants(session)
    _revoke(session, await queries.lock_feed(session, actor.user_id, feed_id))


async def revoke_feeds_of(session: AsyncSession, user_id: int | None) -> None:
    """Revoke every feed of a user who was deleted."""
    if user_id is not None:
        for feed in await queries.lock_feeds_of(session, user_id):
            _revoke(session, feed)


def _revoke(session: AsyncSession, feed: CalendarFeed) -> None:
    feed.revoked_at = now()
    record(session, "REVOKE", feed)


async def read_feed(work: Work, token: str, known_tags: frozenset[str]) -> CalendarFile:
    """Return the sessions of a feed, for whoever has its token.

    The content is left out if its tag is known, or the tags contain `*`. Raises FeedNotFound for a
    token that is unknown or revoked, and while the user may not read the sessions any more.
    """
    if _TOKEN.fullmatch(token) is None:
        raise FeedNotFound
    async with work.begin() as session:
        await see_all_tenants(session)
        subscribed = await queries.find_feed_of_token(session, _digest(token))
        if subscribed is None or not _may_read(subscribed.feed, subscribed.user):
            raise FeedNotFound
        feed = subscribed.feed
        await limit_to(session, Tenant(feed.organization_id, feed.user_id))
        await queries.write_read_time(session, feed, now())
        return await _file_of(session, subscribed, known_tags)


async def _file_of(
    session: AsyncSession, subscribed: queries.SubscribedFeed, known_tags: frozenset[str]
) -> CalendarFile:
    feed, organization_name = subscribed.feed, subscribed.organization_name
    window = queries.FeedWindow.around(now())
    is_clients = feed.scope == FeedScope.CLIENT
    with_names = feed.detail == FeedDetail.NAMES and (is_clients or subscribed.allows_names)
    # A client's feed without names does not name the organization either: it may be a clinic.
    title = organization_name if with_names or not is_clients else "Sessions"
    fingerprint = await queries.fingerprint_of_feed(session, feed, window)
    tag = _digest("\n".join((VERSION, str(with_names), title, fingerprint)))[:32]
    if known_tags & {tag, "*"}:
        return CalendarFile(tag, None)
    rows = await queries.rows_of_feed(session, feed, window)
    if is_clients:
        events = [_of_client(row, organization_name if with_names else None) for row in rows]
    else:
        events = [_of_therapist(row, with_names=with_names) for row in rows]
    return CalendarFile(tag, write_feed(title, events))


def _may_read(feed: CalendarFeed, user: ClientCopy | None) -> bool:
    """Return whether the user of a feed is active, and still gives sessions if it is about them."""
    if feed.scope == FeedScope.CLIENT:
        # Administrators and new users may have no copy here.
        return user is None or user.is_active
    is_employed = user is not None and user.role in policies.EMPLOYED
    return (
        user is not None
        and user.is_active
        and is_employed
        and user.organization_id == feed.organization_id
    )


def _of_client(row: Mapping[str, Any], organization_name: str | None) -> CalendarEvent:
    """Return the event of a reservation, for its client; without a name it shows its time only."""
    details = row if organization_name else _NO_DETAILS
    return CalendarEvent(
        uid=f"reservation-{row['id']}@{UID_DOMAIN}",
        sequence=row["version"],
        changed_at=row["changed_at"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        summary=details["title"] or _UNTITLED,
        description=details["people"] or "",
        location=", ".join(filter(None, (organization_name, details["rooms"]))),
        is_tentative=row["status"] == "held",
        is_cancelled=row["status"] in ("cancelled", "late_cancelled"),
    )


def _of_therapist(row: Mapping[str, Any], *, with_names: bool) -> CalendarEvent:
    """Return the event of a session, for its therapist."""
    is_group = row["capacity"] > 1
    people = row["people"] if with_names else None
    seats = f"{row['seats_taken']} of {row['capacity']}" if is_group else None
    return CalendarEvent(
        uid=f"session-{row['id']}@{UID_DOMAIN}",
        sequence=row["version"],
        changed_at=row["changed_at"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        summary=row["title"] or (None if is_group else people) or _UNTITLED,
        description="\n".join(filter(None, (people, seats))),
        location=row["rooms"] or "",
        is_cancelled=row["status"] == "cancelled",
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
