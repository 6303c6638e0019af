"""Queries of calendar feeds and of the sessions in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import FeedNotFound
from services.vouchers.models import CalendarFeed, ClientCopy
from services.vouchers.queries.rows import require
from shared.connections import execute_early, fetch
from shared.detached import SelectedColumns
from shared.paging import Page

MOST_EVENTS = 5000

_ROOMS = (
    "(SELECT string_agg(q.name, ', ' ORDER BY q.id) FROM resources q"
    " WHERE q.organization_id = s.organization_id AND q.kind = 'room'"
    " AND q.id = ANY(s.resource_ids)) AS rooms"
)


def _utc(moment: str) -> str:
    """Return the SQL of a time as iCalendar writes it, which costs a tenth of doing it here."""
    return f"""to_char({moment} AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS"Z"')"""


_OF_CLIENT = f"""
SELECT r.id, r.version, r.status, {_utc("r.starts_at")} AS starts_at,
    {_utc("r.ends_at")} AS ends_at,
    {_utc("greatest(r.updated_at, s.updated_at)")} AS changed_at,
    coalesce(c.name, v.session_name) AS title, t.name AS people, {_ROOMS}
FROM reservations r
JOIN sessions s ON s.id = r.session_id
LEFT JOIN therapy_classes c ON c.id = s.therapy_class_id
LEFT JOIN vouchers v ON v.id = r.voucher_id
LEFT JOIN client_copies t ON t.id = s.therapist_id
WHERE r.organization_id = $1 AND r.client_id = $2 AND r.starts_at >= $3 AND r.starts_at < $4
    AND (r.status IN ('held', 'booked', 'attended', 'no_show')
        OR (r.status IN ('cancelled', 'late_cancelled') AND r.updated_at >= $5))
ORDER BY r.starts_at, r.id LIMIT {MOST_EVENTS}
"""  # noqa: S608
_OF_THERAPIST = f"""
SELECT s.id, s.version, s.status, {_utc("s.starts_at")} AS starts_at,
    {_utc("s.ends_at")} AS ends_at, {_utc("s.updated_at")} AS changed_at,
    c.name AS title, s.seats_taken, s.capacity, {_ROOMS},
    (SELECT string_agg(u.name, ', ' ORDER BY r.id) FROM reservations r
        JOIN client_copies u ON u.id = r.client_id
        WHERE r.organization_id = s.organization_id AND r.session_id = s.id
        AND r.status IN ('held', 'booked', 'attended', 'no_show')) AS people
FROM sessions s
LEFT JOIN therapy_classes c ON c.id = s.therapy_class_id
WHERE s.organization_id = $1 AND s.therapist_id = $2 AND s.starts_at >= $3 AND s.starts_at < $4
    AND s.ends_at IS NOT NULL AND (s.status <> 'cancelled' OR s.updated_at >= $5)
ORDER BY s.starts_at, s.id LIMIT {MOST_EVENTS}
"""  # noqa: S608
_ROWS = {"client": _OF_CLIENT, "therapist": _OF_THERAPIST}
_FINGERPRINT = (
    "SELECT encode(sha256(convert_to(coalesce(string_agg(event::text, E'\\n'"
    " ORDER BY event.starts_at, event.id), ''), 'UTF8')), 'hex') AS fingerprint"
    " FROM ({rows}) AS event"
)
_FINGERPRINTS = {scope: _FINGERPRINT.format(rows=rows) for scope, rows in _ROWS.items()}
_FEED = SelectedColumns(CalendarFeed, "f")
_USER = SelectedColumns(ClientCopy, "u", start=_FEED.end)
_OF_TOKEN = (
    f"SELECT {_FEED.sql}, {_USER.sql}, o.name AS organization_name,"  # noqa: S608 - of the models
    " COALESCE(b.feed_names, false) AS allows_names FROM calendar_feeds f"
    " JOIN organization_copies o ON o.id = f.organization_id"
    " LEFT JOIN client_copies u ON u.id = f.user_id"
    " LEFT JOIN booking_settings b ON b.organization_id = f.organization_id"
    " WHERE f.token_hash = $1 AND f.revoked_at IS NULL"
)
_READ = (
    "UPDATE calendar_feeds SET last_read_at = $2"
    " WHERE id = $1 AND (last_read_at IS NULL OR last_read_at < $3)"
)


@dataclass(frozen=True, slots=True)
class FeedWindow:
    """The sessions that a feed contains: those that begin between two moments, and those of them
    that were cancelled after a third one."""

    first: datetime
    last: datetime
    cancelled_after: datetime

    @classmethod
    def around(cls, moment: datetime) -> "FeedWindow":
        """Return the window of a feed that is read at a moment."""
        month = timedelta(days=30)
        return cls(moment - month, moment + timedelta(days=365), moment - month)


@dataclass(frozen=True, slots=True)
class SubscribedFeed:
    """A feed with our copy of its user and what its organization allows, all detached."""

    feed: CalendarFeed
    user: ClientCopy | None
    organization_name: str
    allows_names: bool


async def find_feed_of_token(session: AsyncSession, token_hash: str) -> SubscribedFeed | None:
    """Return the feed whose token has a digest unless it was revoked, or None."""
    rows = await fetch(session, _OF_TOKEN, token_hash)
    if not rows:
        return None
    [row] = rows
    feed, user = _FEED.entity(row), _USER.optional_entity(row)
    return SubscribedFeed(feed, user, row["organization_name"], row["allows_names"])


async def lock_feed(session: AsyncSession, user_id: int, feed_id: int) -> CalendarFeed:
    """Return a user's feed that was not revoked, locked; raises FeedNotFound."""
    statement = select(CalendarFeed).where(
        CalendarFeed.id == feed_id,
        CalendarFeed.user_id == user_id,
        CalendarFeed.revoked_at.is_(None),
    )
    return require(await session.scalar(statement.with_for_update()), FeedNotFound)


async def lock_feeds_of(session: AsyncSession, user_id: int) -> Sequence[CalendarFeed]:
    """Return a user's feeds that were not revoked, locked, in the order of their ids."""
    statement = select(CalendarFeed).where(
        CalendarFeed.user_id == user_id, CalendarFeed.revoked_at.is_(None)
    )
    return (await session.scalars(statement.order_by(CalendarFeed.id).with_for_update())).all()


async def page_of_feeds(session: AsyncSession, page: Page, user_id: int) -> list[CalendarFeed]:
    """Return a page of a user's feeds that were not revoked, newest first."""
    statement = select(CalendarFeed).where(
        CalendarFeed.user_id == user_id, CalendarFeed.revoked_at.is_(None)
    )
    rows = (await session.scalars(page.of(statement, CalendarFeed.id))).all()
    return page.cut(rows, lambda row: (row.id,))


async def lock_new_feeds(session: AsyncSession, user_id: int) -> None:
    """Keep other transactions from creating a feed of this user."""
    lock = f"SELECT pg_advisory_xact_lock(hashtextextended('calendar feeds/{int(user_id)}', 3))"
    await execute_early(session, lock)


async def count_feeds(session: AsyncSession, user_id: int) -> int:
    """Return how many feeds a user has that were not revoked."""
    statement = select(func.count()).where(
        CalendarFeed.user_id == user_id, CalendarFeed.revoked_at.is_(None)
    )
    return await session.scalar(statement) or 0


async def fingerprint_of_feed(session: AsyncSession, feed: CalendarFeed, window: FeedWindow) -> str:
    """Return a digest of everything that the events of a feed are made of."""
    [row] = await fetch(session, _FINGERPRINTS[feed.scope], *_parameters(feed, window))
    return str(row["fingerprint"])


async def rows_of_feed(
    session: AsyncSession, feed: CalendarFeed, window: FeedWindow
) -> Sequence[Mapping[str, Any]]:
    """Return what the events of a feed are made of, in the order of their starts."""
    return await fetch(session, _ROWS[feed.scope], *_parameters(feed, window))


def _parameters(feed: CalendarFeed, window: FeedWindow) -> tuple[Any, ...]:
    times = (window.first, window.last, window.cancelled_after)
    return (feed.organization_id, feed.user_id, *times)


async def write_read_time(session: AsyncSession, feed: CalendarFeed, moment: datetime) -> None:
    """Write when a feed was read, at most once an hour.

    Below the ORM: two reads at the same time would compare the version of the row.
    """
    hour_before = moment - timedelta(hours=1)
    if feed.last_read_at is None or feed.last_read_at < hour_before:
        await fetch(session, _READ, feed.id, moment, hour_before)
