"""The calendars of resources, as the pure functions of `scheduling` read them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import ClosureKind, Resource, ResourceKind
from services.vouchers.scheduling.slots import ResourceCalendar
from services.vouchers.scheduling.wallclock import interval_of, local_time
from services.vouchers.scheduling.windows import (
    Interval,
    WeeklyHours,
    contains,
    daily_windows,
    open_windows,
)

_MARGIN = timedelta(days=4)
"""Longer than a session with its buffers, and than the difference between two zones."""

_ALWAYS = [WeeklyHours(weekday, 0, 1440) for weekday in range(1, 8)]
"""The hours of a room or equipment for which no hours are stored."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The local days, both inclusive, whose calendars are read, in an organization's zone."""

    zone: ZoneInfo
    first: date
    last: date

    @classmethod
    def around(cls, zone: ZoneInfo, *moments: datetime) -> "Stretch":
        """Return the days from the first to the last of some moments."""
        days = [moment.astimezone(zone).date() for moment in moments]
        return cls(zone, min(days), max(days))

    def bounds(self) -> tuple[datetime, datetime]:
        """Return local times before and after everything that concerns the days."""
        return local_time(self.first, 0) - _MARGIN, local_time(self.last, 1440) + _MARGIN


async def calendars_of(
    session: AsyncSession,
    organization_id: int,
    resources: Sequence[Resource],
    stretch: Stretch,
    *,
    without_session_id: int | None = None,
) -> dict[int, ResourceCalendar]:
    """Return the calendar of each resource for some days, by resource.

    The time of the session `without_session_id` counts as free.
    """
    ids = [resource.id for resource in resources]
    rows = await queries.rows_of_calendars(
        session,
        organization_id,
        ids,
        *stretch.bounds(),
        without_session_id=without_session_id,
    )
    return {resource.id: _calendar(resource, stretch.zone, rows) for resource in resources}


async def general_closures(
    session: AsyncSession, organization_id: int, stretch: Stretch
) -> list[Interval]:
    """Return when an organization is closed for everybody on some days."""
    closures = await queries.general_closures_between(session, organization_id, *stretch.bounds())
    return [
        interval_of(closure.starts_local, closure.ends_local, stretch.zone)
        for closure in closures
        if closure.kind == ClosureKind.CLOSED
    ]


def zone_of(resource: Resource, organization_zone: ZoneInfo) -> ZoneInfo:
    """Return the zone of a resource's hours and closures."""
    return ZoneInfo(resource.timezone) if resource.timezone else organization_zone


def _calendar(
    resource: Resource, organization_zone: ZoneInfo, rows: queries.CalendarRows
) -> ResourceCalendar:
    zone = zone_of(resource, organization_zone)
    times: dict[str, list[Interval]] = {ClosureKind.OPEN: [], ClosureKind.CLOSED: []}
    for resource_id, kind, starts_local, ends_local in rows.closures:
        if resource_id in (None, resource.id):
            # A closure for everybody has the clock of the organization.
            closure_zone = organization_zone if resource_id is None else zone
            times[kind].append(interval_of(starts_local, ends_local, closure_zone))
    hours = rows.hours.get(resource.id, ())
    if not hours and resource.kind != ResourceKind.THERAPIST:
        hours = _ALWAYS
    return ResourceCalendar(
        zone=zone,
        hours=hours,
        opened=times[ClosureKind.OPEN],
        closed=times[ClosureKind.CLOSED],
        busy_elsewhere=rows.busy_elsewhere.get(resource.id, ()),
        busy=rows.busy.get(resource.id, ()),
        buffer_before_minutes=resource.buffer_before_minutes,
        buffer_after_minutes=resource.buffer_after_minutes,
    )


def opening_times(calendar: ResourceCalendar, stretch: Stretch) -> list[Interval]:
    """Return when a resource is there on some days, without regard to its sessions."""
    first, last = stretch.first - timedelta(days=1), stretch.last + timedelta(days=2)
    windows = daily_windows(calendar.hours, first, last, calendar.zone)
    return open_windows(windows, calendar.opened, [*calendar.closed, *calendar.busy_elsewhere])


def is_open(calendar: ResourceCalendar, start: int, end: int) -> bool:
    """Return whether a resource is there for the whole of [start, end)."""
    moments = (datetime.fromtimestamp(instant, UTC) for instant in (start, end))
    return contains(opening_times(calendar, Stretch.around(calendar.zone, *moments)), start, end)


def is_free(calendar: ResourceCalendar, start: int, end: int) -> bool:
    """Return whether [start, end) with the buffers of the resource meets nothing busy."""
    first = start - calendar.buffer_before_minutes * 60
    last = end + calendar.buffer_after_minutes * 60
    return not any(busy < last and first < until for busy, until in calendar.busy)


def blocked_time(
    resource: Resource, starts_at: datetime, ends_at: datetime
) -> tuple[datetime, datetime]:
    """Return the time that a session blocks of a resource, with its buffers."""
    return (
        starts_at - timedelta(minutes=resource.buffer_before_minutes),
        ends_at + timedelta(minutes=resource.buffer_after_minutes),
    )


def closed_reservations(
    rows: Iterable[queries.OpenReservation], calendars: Mapping[int, ResourceCalendar]
) -> list[queries.OpenReservation]:
    """Return the reservations whose session is outside of the hours of one of its resources."""
    return [row for row in rows if _is_outside(row, calendars)]


def _is_outside(row: queries.OpenReservation, calendars: Mapping[int, ResourceCalendar]) -> bool:
    start, end = int(row.starts_at.timestamp()), int(row.ends_at.timestamp())
    numbers: Collection[int] = [number for number in row.resource_ids if number in calendars]
    return any(not is_open(calendars[number], start, end) for number in numbers)
