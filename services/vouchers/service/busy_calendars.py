"""Use cases of calendars from elsewhere: their events make a resource busy."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, queries
from services.vouchers.external.calendar_addresses import check_calendar_address
from services.vouchers.external.calendar_reader import CalendarReader, CalendarUnreadable
from services.vouchers.models import BusyCalendar, BusyTime
from services.vouchers.queries import DueCalendar
from services.vouchers.scheduling.windows import union
from services.vouchers.schemas.calendars import BusyCalendarRead
from services.vouchers.service.resources import conflicts_of, require_editor
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.encryption import BoundEncryption, UnreadableContent
from shared.transactions import Transactions

READ_EVERY = timedelta(minutes=15)
_BATCH = 20
_PAST, _FUTURE = timedelta(days=1), timedelta(days=400)

log = structlog.get_logger(__name__)


async def get_busy_calendar(
    session: AsyncSession, actor: Actor, organization_id: int, resource_id: int
) -> BusyCalendarRead:
    """Return the state of a resource's calendar elsewhere, and the reservations outside now.

    Raises OrganizationNotFound, Forbidden, ResourceNotFound, BusyCalendarNotFound.
    """
    access.require_employee(actor, organization_id)
    resource = await queries.get_resource(session, organization_id, resource_id)
    calendar = await queries.get_busy_calendar(session, organization_id, resource_id)
    organization = await queries.get_organization(session, organization_id)
    zone = ZoneInfo(organization.timezone)
    return BusyCalendarRead(
        resource_id=resource_id,
        host=calendar.host,
        last_read_at=calendar.last_read_at,
        next_read_at=calendar.next_read_at,
        failing_since=calendar.failing_since,
        last_error=calendar.last_error,
        busy_times=await queries.count_busy_times(session, calendar.id),
        conflicts=await conflicts_of(session, zone, organization_id, [resource]),
    )


async def set_busy_calendar(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    resource_id: int,
    address: str,
    encryption: BoundEncryption,
) -> BusyCalendarRead:
    """Enter the address of a resource's calendar, in place of another one.

    The worker reads it within a minute. Raises OrganizationNotFound, Forbidden, ResourceNotFound.
    """
    await _remove(session, actor, organization_id, resource_id)
    calendar = BusyCalendar(
        organization_id=organization_id,
        resource_id=resource_id,
        host=check_calendar_address(address).host,
        encrypted_address=encryption.encrypt(address, _key(organization_id, resource_id)),
        next_read_at=now(),
    )
    session.add(calendar)
    record(session, "CREATE", calendar)
    await session.flush()
    return await get_busy_calendar(session, actor, organization_id, resource_id)


async def delete_busy_calendar(
    session: AsyncSession, actor: Actor, organization_id: int, resource_id: int
) -> None:
    """Remove a resource's calendar with its busy times.

    Raises OrganizationNotFound, Forbidden, ResourceNotFound, BusyCalendarNotFound.
    """
    if not await _remove(session, actor, organization_id, resource_id):
        await queries.get_busy_calendar(session, organization_id, resource_id)


async def _remove(
    session: AsyncSession, actor: Actor, organization_id: int, resource_id: int
) -> bool:
    """Lock a resource and remove its calendar; return whether there was one."""
    access.require_member(actor, organization_id)
    [resource] = await queries.lock_resources(session, organization_id, [resource_id])
    await require_editor(session, actor, resource)
    calendar = await queries.find_busy_calendar(session, organization_id, resource_id)
    if calendar is None:
        return False
    await session.delete(calendar)
    record(session, "DELETE", calendar)
    await session.flush()
    return True


async def read_due_calendars(
    transactions: Transactions,
    reader: CalendarReader,
    encryption: BoundEncryption,
    moment: datetime | None = None,
) -> int:
    """Read the calendars that are due, and store their busy times; return their number.

    No transaction is open while a calendar is read.
    """
    moment = moment or now()
    total = 0
    while True:
        async with transactions.system() as session:
            calendars = await queries.lock_due_calendars(
                session, moment, moment + READ_EVERY, _BATCH
            )
        reads = (_read(transactions, reader, encryption, calendar) for calendar in calendars)
        for failure in await asyncio.gather(*reads, return_exceptions=True):
            if isinstance(failure, BaseException):
                # The others are read nevertheless, and this one with the next turn.
                log.error("busy_calendar_failed", exc_info=failure)
        total += len(calendars)
        if len(calendars) < _BATCH:
            return total


async def _read(
    transactions: Transactions,
    reader: CalendarReader,
    encryption: BoundEncryption,
    calendar: DueCalendar,
) -> None:
    """Read one calendar and store its times, or why it cannot be read."""
    moment = now()
    try:
        key = _key(calendar.organization_id, calendar.resource_id)
        address = str(encryption.decrypt(calendar.encrypted_address, key))
        stretch = (moment - _PAST, moment + _FUTURE)
        times = await reader.busy_times(address, calendar.zone, stretch)
    except UnreadableContent:
        error = "The address can no longer be decrypted. Enter it again."
    except CalendarUnreadable as failure:
        error = str(failure)
    else:
        await _store(transactions, calendar, times, moment)
        return
    log.info("busy_calendar_unreadable", calendar_id=calendar.id, cause=error)
    async with transactions.system() as session:
        await queries.write_failure(session, calendar.id, moment, error)


async def _store(
    transactions: Transactions,
    calendar: DueCalendar,
    times: list[tuple[int, int]],
    moment: datetime,
) -> None:
    """Replace the busy times of a calendar, unless it was removed meanwhile."""
    rows = [
        BusyTime(
            busy_calendar_id=calendar.id,
            organization_id=calendar.organization_id,
            resource_id=calendar.resource_id,
            starts_at=datetime.fromtimestamp(start, UTC),
            ends_at=datetime.fromtimestamp(end, UTC),
        )
        for start, end in union(times)
    ]
    async with transactions.system() as session:
        # Bookings of the resource are decided under this lock.
        await queries.lock_resources(session, calendar.organization_id, [calendar.resource_id])
        if await queries.has_busy_calendar(session, calendar.id):
            await queries.replace_busy_times(session, calendar, rows)
            await queries.write_success(session, calendar.id, moment)


def _key(organization_id: int, resource_id: int) -> str:
    """Return what an encrypted address is bound to."""
    return f"busy calendar of {organization_id}/{resource_id}"
