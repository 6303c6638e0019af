"""Use cases of series of sessions: create, change from a day on, end."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, queries
from services.vouchers.errors import SeriesEnded
from services.vouchers.models import (
    ClassSession,
    OrganizationCopy,
    SeriesStatus,
    SessionSeries,
    SessionStatus,
    TherapyClass,
)
from services.vouchers.scheduling.series import next_in_phase, successors
from services.vouchers.schemas.calendars import minute_of
from services.vouchers.schemas.series import (
    SeriesConflict,
    SeriesCreate,
    SeriesDetail,
    SeriesEnd,
    SeriesUpdate,
)
from services.vouchers.service.locked_sessions import LockedSessions, lock_sessions
from services.vouchers.service.occupations import require_usable, resources_wanted
from services.vouchers.service.series_dates import (
    examine,
    made_until,
    placement_of,
    rule_of,
    today_in,
)
from services.vouchers.service.series_reads import series_detail
from services.vouchers.service.series_sessions import (
    SeriesMove,
    cancel_sessions,
    is_coming,
    make_sessions,
    move_sessions,
)
from shared.actors import Actor
from shared.changes import record
from shared.errors import Invalid
from shared.preconditions import Precondition

_ONE_DAY = timedelta(days=1)
_RULES = (
    "resource_ids",
    "timezone",
    "weekdays",
    "every_weeks",
    "start_minute",
    "duration_minutes",
    "capacity",
    "last_date",
)
"""The columns of a series that a change from a day on may replace."""


async def create_series(
    session: AsyncSession, actor: Actor, organization_id: int, body: SeriesCreate
) -> SeriesDetail:
    """Create a series, and its sessions up to the horizon.

    Dates without a session are among the conflicts. Raises OrganizationNotFound, Forbidden,
    ClassNotFound, ClientNotFound, ResourceNotFound, SlotTaken, and Invalid.
    """
    access.require_booking_manager(actor, organization_id)
    organization = await queries.get_organization(session, organization_id)
    therapy_class = await queries.get_class(session, organization_id, body.therapy_class_id)
    if body.first_date < today_in(organization.timezone):
        raise Invalid("first_date", "must not be in the past")
    ids = await _resource_ids(session, therapy_class, body)
    series = SessionSeries(
        organization_id=organization_id,
        therapy_class_id=therapy_class.id,
        timezone=organization.timezone,
        weekdays=sorted(body.weekdays),
        every_weeks=body.every_weeks,
        start_minute=minute_of(body.start_time),
        duration_minutes=body.duration_minutes or therapy_class.duration_minutes,
        capacity=body.capacity or therapy_class.capacity,
        first_date=body.first_date,
        last_date=body.last_date,
        follows_id=None,
        **await _derived(session, organization, ids, made_until(body.last_date)),
    )
    return await _start(session, organization, series)


async def _resource_ids(
    session: AsyncSession, therapy_class: TherapyClass, body: SeriesCreate
) -> list[int]:
    """Return the ids of the therapist, the room and the equipment that a series needs."""
    things = body.resource_ids
    if things is None:
        things = [therapy_class.room_id] if therapy_class.room_id is not None else []
    therapist_id = body.therapist_id or therapy_class.therapist_id
    return await resources_wanted(session, therapy_class.organization_id, therapist_id, things)


async def _derived(
    session: AsyncSession, organization: OrganizationCopy, ids: Sequence[int], until: date
) -> dict[str, Any]:
    """Return the columns of a new series that follow from others. Its resources are locked."""
    resources = await queries.lock_resources(session, organization.id, ids)
    require_usable(resources)
    return {
        "resource_ids": [resource.id for resource in resources],
        "made_until": until,
        "status": SeriesStatus.ACTIVE,
        "organization_timezone": organization.timezone,
    }


async def _start(
    session: AsyncSession, organization: OrganizationCopy, series: SessionSeries
) -> SeriesDetail:
    """Store a new series, whose resources are locked, and make its sessions."""
    session.add(series)
    record(session, "CREATE", series)
    await session.flush()
    resources = await queries.lock_resources(session, organization.id, series.resource_ids)
    await make_sessions(session, organization, series, resources)
    return await series_detail(session, series)


async def update_series(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    series_id: int,
    body: SeriesUpdate,
    precondition: Precondition,
) -> SeriesDetail:
    """End a series before a day, and continue it with other rules; return the new series.

    The sessions from that day on move along with everybody who booked them, keeping their ids. With
    the rules that the series has already it stays as it is, and its time zone counts as chosen.
    Raises OrganizationNotFound, Forbidden, SeriesNotFound, StaleVersion, SeriesEnded, SeriesBooked,
    CapacityTaken, SlotTaken, ClientBusy, ClientNotFound, ResourceNotFound, ServiceUnavailable, and
    Invalid.
    """
    series = await _lock_active(session, actor, organization_id, series_id)
    precondition.check(series.version)
    organization = await queries.get_organization(session, organization_id)
    rules = await _changed_rules(session, organization, series, body.changes())
    _require_reachable(series, body.first_day)
    if all(getattr(series, name) == rules[name] for name in _RULES):
        series.organization_timezone = organization.timezone
        if session.is_modified(series):
            record(session, "UPDATE", series)
        await session.flush()
        return await series_detail(session, series)
    first = _first_date(series, rules, body.first_day)
    return await _continue(session, organization, series, {**rules, "first_date": first}, body)


def _require_reachable(series: SessionSeries, day: date) -> None:
    """Raise Invalid for a day on which no change of a series can begin."""
    if day < today_in(series.timezone):
        raise Invalid("from", "must not be in the past")
    until = series.made_until or series.first_date
    if day > max(until + _ONE_DAY, series.first_date):
        raise Invalid("from", f"must not be after {until}, up to which the sessions exist")


async def _lock_active(
    session: AsyncSession, actor: Actor, organization_id: int, series_id: int
) -> SessionSeries:
    access.require_booking_manager(actor, organization_id)
    series = await queries.lock_series(session, organization_id, series_id)
    if series.status != SeriesStatus.ACTIVE:
        raise SeriesEnded
    return series


async def _changed_rules(
    session: AsyncSession,
    organization: OrganizationCopy,
    series: SessionSeries,
    changes: dict[str, Any],
) -> dict[str, Any]:
    """Return the rules of a series after a change."""
    rules = {name: getattr(series, name) for name in _RULES}
    if changes.get("timezone", series.timezone) not in (series.timezone, organization.timezone):
        raise Invalid("timezone", "must be that of the series or that of the organization")
    if changes.keys() & {"therapist_id", "resource_ids"}:
        present = await queries.find_resources(session, organization.id, series.resource_ids)
        users = [each.user_id for each in present if each.user_id is not None]
        things = [each.id for each in present if each.user_id is None]
        ids = await resources_wanted(
            session,
            organization.id,
            changes.pop("therapist_id", users[0] if users else None),
            changes.pop("resource_ids", things),
        )
        changes["resource_ids"] = sorted(set(ids))
    if "weekdays" in changes:
        changes["weekdays"] = sorted(changes["weekdays"])
    if "start_time" in changes:
        changes["start_minute"] = minute_of(changes.pop("start_time"))
    return rules | changes


def _first_date(series: SessionSeries, rules: Mapping[str, Any], wanted: date) -> date:
    """Return the first date of a series that continues another one from a day on."""
    first = max(wanted, series.first_date)
    if rules["every_weeks"] == series.every_weeks:
        first = next_in_phase(rule_of(series), first)
    if rules["last_date"] is not None and rules["last_date"] < first:
        raise Invalid("last_date", f"must not be before {first}, on which the change begins")
    return first


async def _continue(
    session: AsyncSession,
    organization: OrganizationCopy,
    old: SessionSeries,
    rules: dict[str, Any],
    body: SeriesUpdate,
) -> SeriesDetail:
    rows = await queries.sessions_of_series(session, old, body.first_day)
    ids = [row.id for row in rows if is_coming(row) or row.status == SessionStatus.CANCELLED]
    party = await lock_sessions(session, organization.id, ids, rules["resource_ids"])
    until = made_until(rules["last_date"], old.made_until)
    others = await _derived(session, organization, rules["resource_ids"], until)
    new = SessionSeries(
        organization_id=organization.id,
        therapy_class_id=old.therapy_class_id,
        follows_id=old.id,
        **{**rules, **others},
    )
    _end(session, old, body.first_day)
    session.add(new)
    record(session, "CREATE", new)
    await session.flush()
    await _take_over(
        session, organization, new, party, release_reservations=body.release_reservations
    )
    await make_sessions(session, organization, new, party.resources)
    return await series_detail(session, new)


def _end(session: AsyncSession, series: SessionSeries, first_day_without: date) -> None:
    """End a series before a day. One that has not begun keeps its last date."""
    last = first_day_without - _ONE_DAY
    if last >= series.first_date:
        series.last_date = last if series.last_date is None else min(last, series.last_date)
    series.status = SeriesStatus.ENDED
    record(session, "END", series)


async def _take_over(
    session: AsyncSession,
    organization: OrganizationCopy,
    new: SessionSeries,
    party: LockedSessions,
    *,
    release_reservations: bool,
) -> None:
    """Give the sessions of a series to the one that continues it; cancel those without a place."""
    coming = [row.id for row in party.rows.values() if is_coming(row)]
    await queries.delete_occupations(session, coming)
    days = {
        each.day: each.starts_at
        for each in await examine(session, organization, new, party.resources, {})
        if each.conflict in (None, SeriesConflict.CLOSED) and each.starts_at is not None
    }
    rows = {row.series_date: row for row in party.rows.values() if row.series_date is not None}
    moves: dict[int, SeriesMove] = {}
    for old_day, day in successors(rows, days).items():
        if (row := rows[old_day]).id in coming:
            moves[row.id] = SeriesMove(day, placement_of(new, days[day], party.resources))
        else:
            _keep_cancelled(session, new, row, day)
    leaving = [number for number in coming if number not in moves]
    await cancel_sessions(
        session, party, leaving, release_reservations=release_reservations, reason=None
    )
    await move_sessions(session, organization, new, party, moves)


def _keep_cancelled(
    session: AsyncSession, series: SessionSeries, row: ClassSession, day: date
) -> None:
    """Move a cancelled session into a series, so that its date stays without a session."""
    if row.status == SessionStatus.CANCELLED:
        row.series_id, row.series_date = series.id, day
        record(session, "UPDATE", row)


async def end_series(
    session: AsyncSession, actor: Actor, organization_id: int, series_id: int, body: SeriesEnd
) -> SeriesDetail:
    """End a series after a day; later sessions are cancelled.

    Raises OrganizationNotFound, Forbidden, SeriesNotFound, SeriesEnded, SeriesBooked,
    ServiceUnavailable, and Invalid.
    """
    series = await _lock_active(session, actor, organization_id, series_id)
    today = today_in(series.timezone)
    last = body.last_date or today
    if last < today:
        raise Invalid("last_date", "must not be in the past")
    if series.made_until is not None and last > max(series.made_until, today):
        raise Invalid("last_date", f"must not be after {series.made_until}: change the series")
    first_without = last + _ONE_DAY
    rows = await queries.sessions_of_series(session, series, first_without)
    ids = [row.id for row in rows if is_coming(row)]
    party = await lock_sessions(session, organization_id, ids)
    await cancel_sessions(
        session,
        party,
        [row.id for row in party.rows.values() if is_coming(row)],
        release_reservations=body.release_reservations,
        reason=body.reason,
    )
    _end(session, series, first_without)
    await session.flush()
    return await series_detail(session, series)
