"""What a series booking can choose at each of its times: sessions, and free therapists."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import ClassSession, Resource, SessionStatus
from services.vouchers.scheduling.eligibility import reasons_against
from services.vouchers.scheduling.slots import ResourceCalendar
from services.vouchers.scheduling.snapshots import RequestedSession
from services.vouchers.scheduling.wallclock import instant_of
from services.vouchers.service import availability
from services.vouchers.service.booking import candidates_of
from services.vouchers.service.booking_frame import BookingFrame, on_demand_session
from services.vouchers.service.reserve import Target
from services.vouchers.service.slots import capacities_of, requested_sessions

_SOME = 2
"""The least number of clients of a session that is not for one client alone."""


@dataclass(slots=True)
class SeriesTargets:
    """The sessions at the times of a series booking, and the calendars of the therapists.

    A time that was chosen is taken in the calendars, although nothing is written yet.
    """

    sessions: Mapping[datetime, Sequence[Target]]
    therapists: Sequence[Resource]
    types: Mapping[int, Sequence[int]]
    calendars: dict[int, ResourceCalendar]

    def best(self, frame: BookingFrame, starts_at: datetime) -> Target:
        """Return what has the fewest reasons against it: a session, or the least booked therapist.

        A voucher for sessions of several clients books sessions that exist only.
        """
        targets = list(self.sessions.get(starts_at, ()))
        ends_at = starts_at + timedelta(minutes=frame.duration_minutes)
        if frame.terms.max_clients == 1:
            targets += [self._on_demand(each, starts_at, ends_at) for each in self.therapists]
        if not targets:
            return _nothing(frame, starts_at, ends_at)

        def rank(target: Target) -> tuple[int, int, int]:
            therapist = target.therapist
            seconds = -1 if therapist is None else self._booked(therapist, starts_at, frame.zone)
            number = target.requested.session_id or (therapist.id if therapist else 0)
            return len(reasons_against(frame.snapshot(target.requested))), seconds, number

        return min(targets, key=rank)

    def _on_demand(self, therapist: Resource, starts_at: datetime, ends_at: datetime) -> Target:
        start, end = instant_of(starts_at), instant_of(ends_at)
        calendar = self.calendars[therapist.id]
        wish = on_demand_session(
            starts_at,
            ends_at,
            therapist,
            self.types.get(therapist.id, ()),
            is_available=availability.is_open(calendar, start, end),
            is_free=availability.is_free(calendar, start, end),
        )
        return Target(wish, therapist=therapist)

    def _booked(self, therapist: Resource, starts_at: datetime, zone: ZoneInfo) -> int:
        """Return how many seconds of an ISO week a therapist is booked."""
        day = starts_at.astimezone(zone).date()
        monday = datetime.combine(day - timedelta(days=day.weekday()), datetime.min.time(), zone)
        first, last = instant_of(monday), instant_of(monday + timedelta(days=7))
        busy = self.calendars[therapist.id].busy
        return sum(end - start for start, end in busy if first <= start < last)

    def take(self, target: Target) -> None:
        """Occupy the therapist of a session on demand that is to be booked."""
        if (therapist := target.therapist) is not None:
            times = availability.blocked_time(
                therapist, target.requested.starts_at, target.requested.ends_at
            )
            start, end = (instant_of(moment) for moment in times)
            calendar = self.calendars[therapist.id]
            self.calendars[therapist.id] = replace(calendar, busy=[*calendar.busy, (start, end)])


def _nothing(frame: BookingFrame, starts_at: datetime, ends_at: datetime) -> Target:
    """Return a session that nobody gives, of the voucher's size."""
    size = 1 if frame.terms.max_clients == 1 else _SOME
    nobody = on_demand_session(starts_at, ends_at, None, (), is_available=False, is_free=True)
    return Target(replace(nobody, capacity=size))


async def targets_of(
    session: AsyncSession,
    frame: BookingFrame,
    starts: Sequence[int],
    therapist_id: int | None,
    *,
    locked: bool,
) -> SeriesTargets:
    """Return what can be booked at some instants; with `locked` the rows are locked in order."""
    if not starts:
        return SeriesTargets({}, (), {}, {})
    moments = [datetime.fromtimestamp(start, UTC) for start in starts]
    therapists: list[Resource] = []
    if frame.terms.max_clients == 1:
        therapists = await candidates_of(session, frame, therapist_id, locked=locked)
    ids = [therapist.id for therapist in therapists]
    sessions = await _sessions_at(session, frame, moments, therapist_id, locked=locked)
    stretch = availability.Stretch.around(frame.zone, moments[0], moments[-1])
    return SeriesTargets(
        sessions,
        therapists,
        await queries.types_of_resources(session, frame.organization_id, ids),
        await availability.calendars_of(session, frame.organization_id, therapists, stretch),
    )


async def _sessions_at(
    session: AsyncSession,
    frame: BookingFrame,
    moments: Sequence[datetime],
    therapist_id: int | None,
    *,
    locked: bool,
) -> Mapping[datetime, Sequence[Target]]:
    """Return the sessions that begin at some times, as they are under their locks."""
    rows: Sequence[ClassSession] = await queries.list_sessions_at(
        session,
        frame.organization_id,
        moments,
        capacities=capacities_of(frame),
        therapist_id=therapist_id,
    )
    if locked and rows:
        rows = list((await queries.lock_sessions(session, [row.id for row in rows])).values())
    wishes: Mapping[int, RequestedSession] = {}
    if rows:
        wishes = await requested_sessions(session, frame.organization_id, rows)
    targets: dict[datetime, list[Target]] = defaultdict(list)
    for row in rows:
        # Whoever had the lock before may have cancelled it, or may have moved it.
        if row.status == SessionStatus.SCHEDULED:
            targets[row.starts_at].append(Target(wishes[row.id], row))
    return targets
