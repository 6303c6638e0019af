"""The dates of a series: which have a session, and what is against the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.models import (
    ClassSession,
    OrganizationCopy,
    Resource,
    ResourceKind,
    SessionSeries,
    SessionStatus,
)
from services.vouchers.scheduling.series import SeriesDate, WeeklySeries, dates_of
from services.vouchers.scheduling.slots import ResourceCalendar
from services.vouchers.scheduling.wallclock import instant_of
from services.vouchers.scheduling.windows import Interval
from services.vouchers.schemas.series import SeriesConflict
from services.vouchers.service import availability
from services.vouchers.service.occupations import Placement
from shared.db import now

HORIZON = timedelta(weeks=26)
"""How far ahead the sessions of a series exist."""


def horizon() -> date:
    """Return the last day up to which sessions are made now, in UTC: it is the same for all."""
    return now().date() + HORIZON


def made_until(last_date: date | None, before: date | None = None) -> date:
    """Return up to which day the sessions of a series are made now.

    `before` is that day of a series which this one continues: in the ISO week of its last session
    there must be a date to which the session can move.
    """
    until = horizon()
    if before is not None:
        until = max(until, before + timedelta(days=7 - before.isoweekday()))
    return until if last_date is None else min(until, last_date)


def today_in(timezone: str) -> date:
    """Return the present day in a time zone."""
    return now().astimezone(ZoneInfo(timezone)).date()


def rule_of(series: SessionSeries) -> WeeklySeries:
    """Return the rule of a series, from which its dates follow."""
    return WeeklySeries(
        zone=ZoneInfo(series.timezone),
        weekdays=frozenset(series.weekdays),
        every_weeks=series.every_weeks,
        start_minute=series.start_minute,
        first_date=series.first_date,
        last_date=series.last_date,
    )


@dataclass(frozen=True, slots=True)
class SeriesDay:
    """A date of a series: its session if there is one, and what is against it."""

    day: date
    starts_at: datetime | None
    row: ClassSession | None
    conflict: SeriesConflict | None


@dataclass(slots=True)
class SeriesCalendars:
    """When the resources of a series are taken and closed, with the sessions to be made."""

    resources: Sequence[Resource]
    calendars: dict[int, ResourceCalendar]
    closed: Sequence[Interval]

    def is_closed(self, start: int, end: int) -> bool:
        """Return whether a closure of a resource or of everybody meets [start, end)."""
        every = [*self.closed, *(time for each in self.calendars.values() for time in each.closed)]
        return any(first < end and start < last for first, last in every)

    def taken(self, start: int, end: int) -> SeriesConflict | None:
        """Return why a new session cannot take place in [start, end), or None."""
        if not all(resource.is_active for resource in self.resources):
            return SeriesConflict.RESOURCE_INACTIVE
        for resource in sorted(self.resources, key=lambda r: r.kind != ResourceKind.THERAPIST):
            if not availability.is_free(self.calendars[resource.id], start, end):
                is_therapist = resource.kind == ResourceKind.THERAPIST
                return SeriesConflict.SLOT_TAKEN if is_therapist else SeriesConflict.ROOM_TAKEN
        return None

    def take(self, start: int, end: int) -> None:
        """Occupy the resources in [start, end), with their buffers."""
        for resource in self.resources:
            calendar = self.calendars[resource.id]
            before = resource.buffer_before_minutes * 60
            times = (start - before, end + resource.buffer_after_minutes * 60)
            self.calendars[resource.id] = replace(calendar, busy=[*calendar.busy, times])


async def examine(
    session: AsyncSession,
    organization: OrganizationCopy,
    series: SessionSeries,
    resources: Sequence[Resource],
    rows: Mapping[date, ClassSession],
) -> list[SeriesDay]:
    """Return the dates of a series from now on, up to `made_until`.

    `rows` are its sessions by their dates. Hours of work do not limit a series: the therapist has
    agreed to its time. Closures do, and other sessions.
    """
    dates = _coming_dates(series)
    if not dates:
        return []
    stretch = availability.Stretch(ZoneInfo(organization.timezone), dates[0].day, dates[-1].day)
    calendars = SeriesCalendars(
        resources,
        await availability.calendars_of(session, organization.id, resources, stretch),
        await availability.general_closures(session, organization.id, stretch),
    )
    length = series.duration_minutes * 60
    return [_examine(each, rows.get(each.day), calendars, length) for each in dates]


def _coming_dates(series: SessionSeries) -> list[SeriesDate]:
    until, today, moment = series.made_until, today_in(series.timezone), instant_of(now())
    dates = takewhile(
        lambda each: until is not None and each.day <= until, dates_of(rule_of(series))
    )
    return [
        each
        for each in dates
        if (each.day >= today if each.starts_at is None else each.starts_at > moment)
    ]


def _examine(
    occurrence: SeriesDate, row: ClassSession | None, calendars: SeriesCalendars, length: int
) -> SeriesDay:
    start = occurrence.starts_at
    starts_at = None if start is None else datetime.fromtimestamp(start, UTC)
    conflict = None
    if row is not None:
        # A single session may have been moved, and its time is its own.
        starts_at = row.starts_at
        is_open = row.status == SessionStatus.SCHEDULED
        if is_open and calendars.is_closed(instant_of(row.starts_at), instant_of(row.ends_at)):
            conflict = SeriesConflict.CLOSED
    elif start is None:
        conflict = SeriesConflict.NO_SUCH_TIME
    elif (conflict := calendars.taken(start, start + length)) is None:
        if calendars.is_closed(start, start + length):
            conflict = SeriesConflict.CLOSED
        else:
            calendars.take(start, start + length)
    return SeriesDay(occurrence.day, starts_at, row, conflict)


def placement_of(
    series: SessionSeries, starts_at: datetime, resources: Sequence[Resource]
) -> Placement:
    """Return where and when a session of a series is."""
    ends_at = starts_at + timedelta(minutes=series.duration_minutes)
    return Placement(ZoneInfo(series.timezone), starts_at, ends_at, resources)
