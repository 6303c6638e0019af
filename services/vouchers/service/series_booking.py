"""Use case of series booking: one time of the week for many sessions, in one transaction.

All dates are judged before anything is written, each as if those before it were booked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import NoSuchTime
from services.vouchers.models import Reservation, Voucher
from services.vouchers.scheduling.eligibility import reasons_against, remaining
from services.vouchers.scheduling.reasons import BookingReason, ReasonCode, in_words
from services.vouchers.scheduling.series import SeriesDate, WeeklySeries, dates_of
from services.vouchers.scheduling.snapshots import ClientReservation, ReservationStatus
from services.vouchers.schemas.calendars import minute_of
from services.vouchers.schemas.reservations import ReasonRead, SessionChoice, Slot
from services.vouchers.schemas.series_booking import (
    MOST_DATES,
    OnConflict,
    SeriesBooking,
    SeriesBookingResult,
    SeriesDateRead,
)
from services.vouchers.service import booking
from services.vouchers.service.booking_frame import BookingFrame, frame_of
from services.vouchers.service.reserve import Order, Target, reserve
from services.vouchers.service.series_targets import SeriesTargets, targets_of
from services.vouchers.service.slots import openings_between
from shared.actors import Actor
from shared.errors import Conflict, Invalid
from shared.failpoints import failpoint

_MOST_PROPOSALS = 20
_NO_SESSION = -1
"""The id of a session on demand that is not written yet."""


@dataclass(slots=True)
class SeriesOutcome:
    """A date that was judged: what is to be booked, or what is against it."""

    day: date
    starts_at: datetime | None
    target: Target | None = None
    refusals: Sequence[BookingReason] = ()
    overridden: Sequence[str] = ()
    reservation: Reservation | None = None

    @property
    def is_bookable(self) -> bool:
        """Whether nothing is against the date."""
        return self.target is not None and not self.refusals


async def book_series(
    session: AsyncSession, actor: Actor, voucher_id: int, body: SeriesBooking
) -> SeriesBookingResult:
    """Book every date of a series that can be booked; with `dry_run` only judge them.

    Raises VoucherNotFound, Forbidden, StartOffGrid, and with `fail` the Conflict of the first date
    that was refused, with all dates; a dry run lists the refusals instead.
    """
    voucher = await booking.get_bookable(session, actor, voucher_id)
    if body.override:
        actor.require(policies.MANAGE_BOOKINGS, voucher.organization_id)
    if not body.dry_run:
        voucher, _ = await queries.lock_voucher_with_zone(session, voucher.id)
    frame = await frame_of(session, voucher)
    order = Order(actor, voucher, frame, (), body.override_reason)
    outcomes, after = await _plan(session, order, body)
    is_refused = body.on_conflict == OnConflict.FAIL and not all(
        outcome.is_bookable for outcome in outcomes
    )
    if not body.dry_run and not is_refused:
        await _write(session, order, outcomes)
    result = await _result(session, after, voucher, outcomes, body.therapist_id)
    if is_refused and not body.dry_run:
        raise _refusal(outcomes, result)
    return result


async def _plan(
    session: AsyncSession, order: Order, body: SeriesBooking
) -> tuple[list[SeriesOutcome], BookingFrame]:
    """Return what is to be booked, and the frame afterwards; rows are locked unless `dry_run`."""
    frame = order.frame
    if body.first_date < frame.now.astimezone(frame.zone).date():
        raise Invalid("first_date", "must not be in the past")
    dates = list(_dates(frame, body))
    starts = [each.starts_at for each in dates if each.starts_at is not None]
    first = datetime.fromtimestamp(starts[0], UTC) if starts else None
    choice = SessionChoice.model_construct(starts_at=first, session_id=None, therapist_id=None)
    booking.require_allowed(order.actor, order.voucher, frame, choice)
    targets = await targets_of(session, frame, starts, body.therapist_id, locked=not body.dry_run)
    failpoint("series.locked")
    outcomes, after = _judge(frame, body, dates, targets)
    for outcome in outcomes:
        if outcome.is_bookable and outcome.target is not None:
            booking.require_own_session(order.actor, order.voucher, outcome.target)
    return outcomes, after


def _wanted(frame: BookingFrame, body: SeriesBooking) -> int:
    """Return how many sessions are wanted; at least one, so that a reason is reported."""
    bookable = frame.terms.sessions_left - frame.terms.booked_sessions
    return min(max(body.count or bookable, 1), MOST_DATES)


def _dates(frame: BookingFrame, body: SeriesBooking) -> Iterator[SeriesDate]:
    """Yield the dates to judge: as many as are wanted, or those from which to append, too.

    A date that the clock skips is yielded and does not count.
    """
    series = WeeklySeries(
        zone=frame.zone,
        weekdays=frozenset(body.weekdays),
        every_weeks=body.every_weeks,
        start_minute=minute_of(body.start_time),
        first_date=body.first_date,
    )
    goal = _wanted(frame, body)
    number = 0
    for each in islice(dates_of(series), MOST_DATES):
        if number >= goal and (
            body.on_conflict != OnConflict.APPEND or each.day > _last_day(frame, body)
        ):
            return
        number += each.starts_at is not None
        yield each


def _last_day(frame: BookingFrame, body: SeriesBooking) -> date:
    """Return the last day that is worth a try: later ones are all refused."""
    last = frame.terms.valid_until or date.max
    if "too_early" in body.override:
        return last
    today = frame.now.astimezone(frame.zone).date()
    return min(last, today + timedelta(days=frame.policy.opens_days))


def _judge(
    frame: BookingFrame, body: SeriesBooking, dates: Sequence[SeriesDate], targets: SeriesTargets
) -> tuple[list[SeriesOutcome], BookingFrame]:
    """Return the outcome of each date, and the frame with all sessions that are to be booked."""
    outcomes: list[SeriesOutcome] = []
    goal, number = _wanted(frame, body), 0
    for each in dates:
        if number == goal:
            break
        if each.starts_at is None:
            outcomes.append(SeriesOutcome(each.day, None))
            continue
        starts_at = datetime.fromtimestamp(each.starts_at, UTC)
        target = targets.best(frame, starts_at)
        reasons = reasons_against(frame.snapshot(target.requested))
        refusals = remaining(reasons, body.override)
        codes = [reason.code.value for reason in reasons]
        outcomes.append(SeriesOutcome(each.day, starts_at, target, refusals, codes))
        if not refusals:
            targets.take(target)
            frame = _with(frame, target, may_overlap=ReasonCode.CLIENT_BUSY in codes)
            number += 1
    return outcomes, frame


def _with(frame: BookingFrame, target: Target, *, may_overlap: bool) -> BookingFrame:
    """Return a frame as it is when a session is booked."""
    reservation = ClientReservation(
        session_id=target.requested.session_id or _NO_SESSION,
        status=ReservationStatus.BOOKED,
        starts_at=target.requested.starts_at,
        ends_at=target.requested.ends_at,
        is_of_voucher=True,
        may_overlap=may_overlap,
    )
    terms = replace(frame.terms, booked_sessions=frame.terms.booked_sessions + 1)
    return replace(frame, terms=terms, reservations=[*frame.reservations, reservation])


async def _write(session: AsyncSession, order: Order, outcomes: Sequence[SeriesOutcome]) -> None:
    for outcome in outcomes:
        if outcome.is_bookable and outcome.target is not None:
            one = replace(order, overridden=outcome.overridden)
            outcome.reservation, row = await reserve(session, one, outcome.target)
            outcome.target = replace(outcome.target, row=row)
    failpoint("series.written")


async def _result(
    session: AsyncSession,
    frame: BookingFrame,
    voucher: Voucher,
    outcomes: Sequence[SeriesOutcome],
    therapist_id: int | None,
) -> SeriesBookingResult:
    refusals = [outcome for outcome in outcomes if not outcome.is_bookable]
    proposals = {
        outcome.day: await _proposals(session, frame, outcome, therapist_id)
        for outcome in refusals[:_MOST_PROPOSALS]
    }
    return SeriesBookingResult(
        dates=[_read(frame, each, proposals.get(each.day, [])) for each in outcomes],
        bookable_sessions=voucher.bookable_sessions,
        booked_sessions=voucher.booked_sessions,
    )


async def _proposals(
    session: AsyncSession, frame: BookingFrame, outcome: SeriesOutcome, therapist_id: int | None
) -> list[Slot]:
    """Return the three free times of the date's ISO week that are nearest to it."""
    monday = outcome.day - timedelta(days=outcome.day.weekday())
    days = (monday, monday + timedelta(days=6))
    noon = datetime.combine(outcome.day, datetime.min.time(), frame.zone) + timedelta(hours=12)
    wish = outcome.starts_at or noon
    openings = await openings_between(session, frame, days, therapist_id)
    moment = wish.timestamp()
    nearest = sorted(openings, key=lambda opening: (abs(opening.start - moment), opening.start))
    return [opening.read(frame) for opening in nearest[:3]]


def _read(frame: BookingFrame, outcome: SeriesOutcome, proposals: Sequence[Slot]) -> SeriesDateRead:
    target, reservation = outcome.target, outcome.reservation
    session_id = reservation.session_id if reservation else None
    therapist_id = None
    if target is not None:
        session_id = session_id or target.requested.session_id
        source = target.row.therapist_id if target.row else None
        therapist_id = target.therapist.user_id if target.therapist else source
    return SeriesDateRead(
        date=outcome.day,
        starts_at=outcome.starts_at.astimezone(frame.zone) if outcome.starts_at else None,
        session_id=session_id,
        therapist_id=therapist_id,
        bookable=outcome.is_bookable,
        reservation_id=reservation.id if reservation else None,
        reasons=_reasons(outcome),
        proposals=list(proposals),
    )


def _reasons(outcome: SeriesOutcome) -> list[ReasonRead]:
    if outcome.starts_at is None:
        detail = f"The clock skips this time on {in_words(outcome.day)}. Choose another one."
        code = NoSuchTime.code()
        return [ReasonRead(code=code, detail=detail, overridable=False, until=None)]
    return [booking.read_reason(reason) for reason in outcome.refusals]


def _refusal(outcomes: Sequence[SeriesOutcome], result: SeriesBookingResult) -> Conflict:
    """Return the error of the first date that was refused, with all dates as a member."""
    outcome, read = next(
        pair for pair in zip(outcomes, result.dates, strict=True) if not pair[0].is_bookable
    )
    error: Conflict = NoSuchTime()
    if outcome.starts_at is not None:
        error = booking.refusal_of(outcome.refusals, read.proposals)
    dates = [each.model_dump(mode="json") for each in result.dates]
    error.members = {**error.members, "dates": dates}
    return error
