"""The sessions of a series: made up to a horizon, moved with everybody, cancelled at its end."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.errors import CapacityTaken, SeriesBooked
from services.vouchers.models import (
    ClassSession,
    HeldFor,
    OrganizationCopy,
    Reservation,
    Resource,
    SeriesStatus,
    SessionSeries,
    SessionStatus,
)
from services.vouchers.scheduling.periods import period_of
from services.vouchers.scheduling.snapshots import OPEN_STATUSES
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.locked_sessions import (
    LockedSessions,
    balance_of,
    end_session,
    release,
)
from services.vouchers.service.occupations import Placement, new_session, occupations_of
from services.vouchers.service.series_dates import (
    examine,
    horizon,
    made_until,
    placement_of,
    today_in,
)
from shared.changes import record
from shared.db import now
from shared.errors import Conflict
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

_BATCH = 100
_ONE_DAY = timedelta(days=1)


async def make_sessions(
    session: AsyncSession,
    organization: OrganizationCopy,
    series: SessionSeries,
    resources: Sequence[Resource],
) -> int:
    """Make the missing sessions of a locked series up to `made_until`; return their number.

    The resources are locked. A date that does not exist on the clock, is closed or is taken has no
    session; a later run makes it if the reason has gone. A cancelled session stays cancelled.
    """
    rows = await queries.sessions_of_series(session, series, today_in(series.timezone) - _ONE_DAY)
    by_date = {row.series_date: row for row in rows if row.series_date is not None}
    occupations = []
    for each in await examine(session, organization, series, resources, by_date):
        if each.row is None and each.conflict is None and each.starts_at is not None:
            placement = placement_of(series, each.starts_at, resources)
            row = _new_row(series, each.day, placement)
            session.add(row)
            record(session, "CREATE", row)
            occupations.append((row, placement))
    await flush_booking(session)
    session.add_all(each for pair in occupations for each in occupations_of(*pair))
    await flush_booking(session)
    return len(occupations)


def _new_row(series: SessionSeries, day: date, placement: Placement) -> ClassSession:
    """Return a new session of a series."""
    return new_session(
        series.organization_id,
        placement,
        therapy_class_id=series.therapy_class_id,
        series_id=series.id,
        series_date=day,
        capacity=series.capacity,
    )


async def extend_series(transactions: Transactions) -> int:
    """Make the sessions of series up to today's horizon; return their number.

    A series whose last day is over ends.
    """
    total, last_id = 0, 0
    while series_ids := await _list_to_extend(transactions, last_id):
        for series_id in series_ids:
            try:
                total += await _extend(transactions, series_id)
            except (Conflict, ZoneInfoNotFoundError) as error:
                # One that cannot be extended does not block the others.
                log.warning("series_not_extended", series_id=series_id, cause=repr(error))
        last_id = series_ids[-1]
    if total:
        log.info("sessions_of_series_made", number=total)
    return total


async def _list_to_extend(transactions: Transactions, after_id: int) -> Sequence[int]:
    # The day before that of UTC is over in every zone.
    ended_before = now().date() - _ONE_DAY
    async with transactions.system() as session:
        return await queries.list_series_to_extend(
            session, horizon(), ended_before, after_id, _BATCH
        )


async def _extend(transactions: Transactions, series_id: int) -> int:
    async with transactions.system() as session:
        series = await queries.find_series_to_extend(session, series_id)
        if series is None:
            return 0
        if series.last_date is not None and series.last_date < today_in(series.timezone):
            series.status = SeriesStatus.ENDED
            record(session, "END", series)
            return 0
        organization = await queries.get_organization(session, series.organization_id)
        series.made_until = made_until(series.last_date)
        if session.is_modified(series):
            record(session, "UPDATE", series)
        resources = await queries.lock_resources(session, organization.id, series.resource_ids)
        return await make_sessions(session, organization, series, resources)


@dataclass(frozen=True, slots=True)
class SeriesMove:
    """Where the session of a series is to be: its new date, and its new place and time."""

    series_date: date
    placement: Placement


async def move_sessions(
    session: AsyncSession,
    organization: OrganizationCopy,
    series: SessionSeries,
    party: LockedSessions,
    moves: Mapping[int, SeriesMove],
) -> None:
    """Move locked sessions, by their ids, into a series, with everybody who has a place in them.

    Their occupations are deleted already. Raises CapacityTaken, ClientBusy, SlotTaken.
    """
    rows = [party.rows[number] for number in moves]
    if any(row.seats_taken > series.capacity for row in rows):
        raise CapacityTaken
    places = {number: move.placement for number, move in moves.items()}
    moved_ids = {row.id for row in rows if places[row.id].times != (row.starts_at, row.ends_at)}
    reservations = [each for each in party.reservations if each.session_id in moved_ids]
    rules = [(each, each.period, each.may_overlap) for each in reservations]
    # While the sessions are moved one by one, two of a client may have the same time or period.
    for reservation in reservations:
        reservation.period, reservation.may_overlap = None, True
    await flush_booking(session)
    for row in rows:
        _move_row(session, series, row, moves[row.id], party.reservations)
    await flush_booking(session)
    await _follow(session, organization, party, rules)
    for row in rows:
        session.add_all(occupations_of(row, places[row.id]))
    await flush_booking(session)


def _move_row(
    session: AsyncSession,
    series: SessionSeries,
    row: ClassSession,
    move: SeriesMove,
    reservations: Sequence[Reservation],
) -> None:
    placement = move.placement
    times, resource_ids = (row.starts_at, row.ends_at), row.resource_ids
    is_moved = times != placement.times or resource_ids != placement.resource_ids
    row.series_id, row.series_date = series.id, move.series_date
    row.starts_at, row.ends_at = placement.starts_at, placement.ends_at
    row.starts_local, row.timezone = placement.starts_local, placement.zone.key
    row.therapist_id, row.resource_ids = placement.therapist_id, placement.resource_ids
    row.capacity = series.capacity
    if is_moved:
        number = sum(1 for each in reservations if each.session_id == row.id)
        record(session, "MOVE", row, reservations=number)
    else:
        record(session, "UPDATE", row)


async def _follow(
    session: AsyncSession,
    organization: OrganizationCopy,
    party: LockedSessions,
    rules: Sequence[tuple[Reservation, int | None, bool]],
) -> None:
    """Give reservations the times of their moved sessions, and their new periods.

    A voucher that has another session in the new period keeps both: the organization decided it.
    """
    zone = ZoneInfo(organization.timezone)
    others = await queries.periods_taken(session, organization.id, party.vouchers.keys())
    periods = {(voucher_id, period) for voucher_id, period, _ in others}
    for reservation, old_period, may_overlap in rules:
        row = party.rows[reservation.session_id]
        voucher = party.vouchers.get(reservation.voucher_id or 0)
        reservation.starts_at, reservation.ends_at = row.starts_at, row.ends_at
        reservation.may_overlap = may_overlap
        if reservation.held_for == HeldFor.APPROVAL:
            reservation.held_until = row.starts_at
        if voucher is not None and old_period is not None:
            day = row.starts_at.astimezone(zone).date()
            period = period_of(voucher.frequency, day, voucher.valid_from)
            if period is not None and (voucher.id, period) not in periods:
                reservation.period = period
                periods.add((voucher.id, period))
        record(session, "RESCHEDULE", reservation, **balance_of(reservation, voucher))
    await flush_booking(session)


async def cancel_sessions(
    session: AsyncSession,
    party: LockedSessions,
    session_ids: Collection[int],
    *,
    release_reservations: bool,
    reason: str | None,
) -> None:
    """Cancel locked sessions of a series.

    Raises SeriesBooked with the reservations, unless these are to be released without charge.
    """
    leaving = [each for each in party.reservations if each.session_id in session_ids]
    open_ids = [each.id for each in leaving if each.status in OPEN_STATUSES]
    if open_ids and not release_reservations:
        error = SeriesBooked()
        error.members = {"reservations": open_ids}
        raise error
    for reservation in leaving:
        voucher = party.vouchers.get(reservation.voucher_id or 0)
        row = party.rows[reservation.session_id]
        release(session, reservation, voucher, row, reason="session_cancelled")
    for number in session_ids:
        await end_session(session, party.rows[number], reason)


def is_coming(row: ClassSession) -> bool:
    """Return whether a session is neither cancelled nor has begun."""
    return row.status == SessionStatus.SCHEDULED and row.starts_at > now()
