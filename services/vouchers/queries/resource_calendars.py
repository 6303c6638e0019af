"""The query of when resources are there, and when they are taken."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.scheduling.windows import Interval, WeeklyHours
from shared.connections import fetch_flushed

Closing = tuple[int | None, str, datetime, datetime]
"""A closure: its resource, or None for everybody, its kind, and its local start and end."""

# One statement, for each costs a round trip and a snapshot of the server. Occupations are the only
# rows of which there are hundreds: columns cost the driver less than rows.
_CALENDARS = """
    SELECT
    ARRAY(
        SELECT ROW(resource_id, weekday, start_minute, end_minute, from_date, until_date)
        FROM working_hours WHERE organization_id = $1 AND resource_id = ANY($2)
        ORDER BY weekday, start_minute, id
    ) AS hours,
    ARRAY(
        SELECT ROW(resource_id, kind, starts_local, ends_local) FROM closures
        WHERE organization_id = $1 AND (resource_id IS NULL OR resource_id = ANY($2))
        AND starts_local < $4 AND ends_local > $3
    ) AS closures,
    ARRAY(
        SELECT ROW(
            resource_id, extract(epoch FROM starts_at)::bigint, extract(epoch FROM ends_at)::bigint
        )
        FROM busy_times WHERE organization_id = $1 AND resource_id = ANY($2)
        AND starts_at < $4 AT TIME ZONE 'UTC' AND ends_at > $3 AT TIME ZONE 'UTC'
        ORDER BY resource_id, starts_at
    ) AS busy_elsewhere,
    occupied.resource_ids, occupied.starts, occupied.ends
    FROM (
        SELECT array_agg(resource_id) AS resource_ids,
        array_agg(extract(epoch FROM lower(blocked))::bigint) AS starts,
        array_agg(extract(epoch FROM upper(blocked))::bigint) AS ends
        FROM (
            SELECT resource_id, blocked FROM occupations
            WHERE organization_id = $1 AND resource_id = ANY($2)
            AND blocked && tstzrange($3 AT TIME ZONE 'UTC', $4 AT TIME ZONE 'UTC')
            AND enforced AND session_id IS DISTINCT FROM $5
            ORDER BY resource_id, lower(blocked)
        ) AS ordered
    ) AS occupied
"""


@dataclass(frozen=True, slots=True)
class CalendarRows:
    """What is stored of the calendars of resources, by resource; `closures` are of all of them.

    The intervals are seconds since 1970, in the order of their starts.
    """

    closures: list[Closing]
    hours: Mapping[int, list[WeeklyHours]] = field(default_factory=lambda: defaultdict(list))
    busy: Mapping[int, list[Interval]] = field(default_factory=lambda: defaultdict(list))
    busy_elsewhere: Mapping[int, list[Interval]] = field(default_factory=lambda: defaultdict(list))


async def rows_of_calendars(
    session: AsyncSession,
    organization_id: int,
    resource_ids: Collection[int],
    first: datetime,
    last: datetime,
    *,
    without_session_id: int | None = None,
) -> CalendarRows:
    """Return the calendars of resources in a stretch of local time.

    The times that are no local times are read as if that stretch were of UTC. The time of sessions
    that allow others at the same time does not count, nor that of `without_session_id`.
    """
    [row] = await fetch_flushed(
        session, _CALENDARS, organization_id, list(resource_ids), first, last, without_session_id
    )
    rows = CalendarRows(row["closures"])
    for resource_id, *hours in row["hours"]:
        rows.hours[resource_id].append(WeeklyHours(*hours))
    for resource_id, start, end in row["busy_elsewhere"]:
        rows.busy_elsewhere[resource_id].append((start, end))
    occupied = (row[name] or () for name in ("resource_ids", "starts", "ends"))
    for resource_id, start, end in zip(*occupied, strict=True):
        rows.busy[resource_id].append((start, end))
    return rows
