"""Queries of calendars from elsewhere, and of the busy times in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import BusyCalendarNotFound
from services.vouchers.models import BusyCalendar, BusyTime, OrganizationCopy, Resource
from services.vouchers.queries.rows import require
from shared.connections import fetch

_PLANNED = "UPDATE busy_calendars SET next_read_at = $2 WHERE id = ANY($1)"
_READ = (
    "UPDATE busy_calendars SET last_read_at = $2, failing_since = NULL, last_error = NULL"
    " WHERE id = $1"
)
_FAILED = (
    "UPDATE busy_calendars SET last_error = $3, failing_since = coalesce(failing_since, $2)"
    " WHERE id = $1"
)


@dataclass(frozen=True, slots=True)
class DueCalendar:
    """A calendar to read, and the zone of its times that have none."""

    id: int
    organization_id: int
    resource_id: int
    encrypted_address: str
    zone: str


async def find_busy_calendar(
    session: AsyncSession, organization_id: int, resource_id: int
) -> BusyCalendar | None:
    """Return the calendar of a resource, or None."""
    statement = select(BusyCalendar).where(
        BusyCalendar.organization_id == organization_id, BusyCalendar.resource_id == resource_id
    )
    return (await session.scalars(statement)).one_or_none()


async def get_busy_calendar(
    session: AsyncSession, organization_id: int, resource_id: int
) -> BusyCalendar:
    """Return the calendar of a resource; raises BusyCalendarNotFound."""
    calendar = await find_busy_calendar(session, organization_id, resource_id)
    return require(calendar, BusyCalendarNotFound)


async def has_busy_calendar(session: AsyncSession, calendar_id: int) -> bool:
    """Return whether a calendar still exists."""
    statement = select(BusyCalendar.id).where(BusyCalendar.id == calendar_id)
    return await session.scalar(statement) is not None


async def count_busy_times(session: AsyncSession, calendar_id: int) -> int:
    """Return how many busy times a calendar has."""
    statement = select(func.count()).where(BusyTime.busy_calendar_id == calendar_id)
    return await session.scalar(statement) or 0


async def lock_due_calendars(
    session: AsyncSession, moment: datetime, next_read_at: datetime, limit: int
) -> list[DueCalendar]:
    """Return calendars of active resources that are to be read; plan their next reading.

    Those that another transaction has locked are left out. Below the ORM: a calendar gets no new
    version by being read.
    """
    statement = (
        select(
            BusyCalendar.id,
            BusyCalendar.organization_id,
            BusyCalendar.resource_id,
            BusyCalendar.encrypted_address,
            func.coalesce(Resource.timezone, OrganizationCopy.timezone),
        )
        .join(
            Resource,
            and_(
                Resource.organization_id == BusyCalendar.organization_id,
                Resource.id == BusyCalendar.resource_id,
            ),
        )
        .join(OrganizationCopy, OrganizationCopy.id == BusyCalendar.organization_id)
        .where(BusyCalendar.next_read_at <= moment, Resource.is_active)
        .order_by(BusyCalendar.next_read_at)
        .limit(limit)
        .with_for_update(of=BusyCalendar, skip_locked=True)
    )
    calendars = [DueCalendar(*row) for row in await session.execute(statement)]
    await fetch(session, _PLANNED, [calendar.id for calendar in calendars], next_read_at)
    return calendars


async def replace_busy_times(
    session: AsyncSession, calendar: DueCalendar, times: Sequence[BusyTime]
) -> None:
    """Replace the busy times of a calendar."""
    await session.execute(delete(BusyTime).where(BusyTime.busy_calendar_id == calendar.id))
    session.add_all(times)
    await session.flush()


async def write_success(session: AsyncSession, calendar_id: int, moment: datetime) -> None:
    """Write that a calendar was read."""
    await fetch(session, _READ, calendar_id, moment)


async def write_failure(
    session: AsyncSession, calendar_id: int, moment: datetime, error: str
) -> None:
    """Write why a calendar cannot be read."""
    await fetch(session, _FAILED, calendar_id, moment, error)
