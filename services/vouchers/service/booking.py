"""Use cases of booking: judge a session, and book it, hold it or wait for a seat in it.

Locks are taken in one order: the voucher, the resources, the sessions. Everything that decides is
read after them.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import (
    BOOKING_REFUSALS,
    SessionNotFound,
    StartOffGrid,
    TooManyHolds,
)
from services.vouchers.models import (
    ClassSession,
    HeldFor,
    Reservation,
    Resource,
    Voucher,
    VoucherStatus,
)
from services.vouchers.scheduling.eligibility import reasons_against, remaining
from services.vouchers.scheduling.reasons import BookingReason
from services.vouchers.scheduling.wallclock import instant_of, is_on_grid
from services.vouchers.schemas.reservations import (
    EligibilityRead,
    ReasonRead,
    ReservationCreate,
    SessionChoice,
    Slot,
)
from services.vouchers.service import availability
from services.vouchers.service.booking_frame import (
    BookingFrame,
    frame_of,
    on_demand_session,
    requested_session,
)
from services.vouchers.service.charges import Place
from services.vouchers.service.reservation_states import (
    WAITLISTED,
    ReservationState,
    checkout_state,
    hold_until,
)
from services.vouchers.service.reserve import Order, Target, reserve
from services.vouchers.service.slots import next_slots
from services.vouchers.service.waitlist import overrides_to_wait
from shared.actors import Actor, permission_missing
from shared.errors import Conflict, Forbidden
from shared.failpoints import failpoint
from shared.tenancy import Tenant, limit_to

MOST_HOLDS = 3
"""How many times a client may hold at once in an organization."""


async def judge(
    session: AsyncSession, actor: Actor, voucher_id: int, choice: SessionChoice
) -> EligibilityRead:
    """Return every reason against a booking, and the next free times. Nothing changes.

    Raises VoucherNotFound, Forbidden, SessionNotFound, StartOffGrid.
    """
    voucher = await get_bookable(session, actor, voucher_id)
    frame = await frame_of(session, voucher)
    _require_on_grid(actor, frame, choice)
    target = await find_target(session, frame, choice, locked=False)
    reasons = reasons_against(frame.snapshot(target.requested))
    slots: list[Slot] = []
    if reasons:
        slots = await next_slots(session, frame, target.requested.starts_at, choice.therapist_id)
    read = [read_reason(reason) for reason in reasons]
    return EligibilityRead(eligible=not reasons, reasons=read, next_slots=slots)


async def book(
    session: AsyncSession, actor: Actor, voucher_id: int, body: ReservationCreate
) -> tuple[Place, BookingFrame]:
    """Book a session: one seat, the time of a therapist, and an earmark on the voucher.

    Return the client's place and the frame by which it was judged.
    With `hold` the time is held until the client confirms it; with `waitlist` the client waits for
    a seat of a session that is full. Raises VoucherNotFound, Forbidden, SessionNotFound,
    StartOffGrid, TooManyHolds, WaitlistClosed, and the Conflict of the first reason against it,
    with all reasons and the next free times.
    """
    voucher = await get_bookable(session, actor, voucher_id)
    if body.override:
        actor.require(policies.MANAGE_BOOKINGS, voucher.organization_id)
    voucher, _ = await queries.lock_voucher_with_zone(session, voucher.id)
    frame = await frame_of(session, voucher)
    reservation, row = await book_with(session, actor, voucher, frame, body)
    return Place(reservation, row, voucher), frame


async def book_with(
    session: AsyncSession,
    actor: Actor,
    voucher: Voucher,
    frame: BookingFrame,
    body: ReservationCreate,
) -> tuple[Reservation, ClassSession]:
    """Book a session with a locked, detached voucher that is judged by a frame.

    Return the reservation and its session, detached. Raises as `book` does.
    """
    require_allowed(actor, voucher, frame, body)
    target = await find_target(session, frame, body, locked=True)
    require_own_session(actor, voucher, target)
    failpoint("reservation.locked")
    state: ReservationState | None = WAITLISTED
    overridden = None
    if body.waitlist:
        overridden = overrides_to_wait(frame, target.requested, target.row, body.override)
    if overridden is None:
        wanted = body.therapist_id
        overridden = await require_bookable(session, frame, target, body.override, wanted)
        state = await _hold(session, voucher, frame, target) if body.hold else None
    order = Order(actor, voucher, frame, overridden, body.override_reason, state)
    reservation, row = await reserve(session, order, target)
    failpoint("reservation.written")
    return reservation, row


async def get_bookable(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    """Return a voucher that the actor books with, detached, and see its organization's rows.

    Raises VoucherNotFound or Forbidden.
    """
    voucher = await access.get_bookable_voucher(session, actor, voucher_id)
    await limit_to(session, Tenant(voucher.organization_id, actor.user_id))
    return voucher


def require_allowed(
    actor: Actor, voucher: Voucher, frame: BookingFrame, choice: SessionChoice
) -> None:
    """Raise Forbidden for clients where the organization books, and StartOffGrid."""
    is_staff = policies.is_therapist(actor, voucher.organization_id) or (
        policies.can_manage_bookings(actor, voucher.organization_id)
    )
    if not is_staff and not frame.settings.clients_book:
        raise Forbidden("This organization books the sessions itself. Contact it.")
    _require_on_grid(actor, frame, choice)


def _require_on_grid(actor: Actor, frame: BookingFrame, choice: SessionChoice) -> None:
    """Raise StartOffGrid for a start that is not offered; managers choose any minute."""
    if choice.starts_at is None:
        return
    step = frame.policy.slot_minutes
    if policies.can_manage_bookings(actor, frame.organization_id):
        step = 1
    is_whole = choice.starts_at.microsecond == 0
    if not (is_whole and is_on_grid(instant_of(choice.starts_at), step, frame.zone)):
        raise StartOffGrid(
            f"Sessions begin every {step} minutes after midnight in {frame.zone.key}."
            " Choose one of the free times."
        )


def require_own_session(actor: Actor, voucher: Voucher, target: Target) -> None:
    """Raise Forbidden if a therapist books a client into the session of somebody else."""
    organization_id = voucher.organization_id
    if policies.is_own(actor, voucher) or policies.can_manage_bookings(actor, organization_id):
        return
    therapist = target.row.therapist_id if target.row else None
    if target.therapist is not None:
        therapist = target.therapist.user_id
    if therapist != actor.user_id:
        raise permission_missing(policies.MANAGE_BOOKINGS)


async def find_target(
    session: AsyncSession,
    frame: BookingFrame,
    choice: SessionChoice,
    *,
    locked: bool,
    without_session_id: int | None = None,
) -> Target:
    """Return the session that is wanted; with `locked` its row or its therapist is locked.

    The time of the session `without_session_id` counts as free. Raises SessionNotFound.
    """
    if choice.session_id is not None:
        row = await queries.get_session(session, choice.session_id)
        if row.organization_id != frame.organization_id:
            raise SessionNotFound
        if locked:
            row = (await queries.lock_sessions(session, [row.id]))[row.id]
        return Target(await requested_session(session, row), row)
    assert choice.starts_at is not None
    ends_at = choice.starts_at + timedelta(minutes=frame.duration_minutes)
    candidates = await candidates_of(session, frame, choice.therapist_id, locked=locked)
    targets = await _on_demand(
        session, frame, candidates, (choice.starts_at, ends_at), without_session_id
    )
    return await _best(session, frame, targets)


async def candidates_of(
    session: AsyncSession, frame: BookingFrame, therapist_id: int | None, *, locked: bool
) -> list[Resource]:
    """Return the therapist that is wanted, or all who give sessions of the voucher's type."""
    organization_id = frame.organization_id
    if therapist_id is not None:
        therapist = await queries.find_therapist(
            session, organization_id, therapist_id, locked=locked
        )
        return [therapist] if therapist else []
    voucher_type_id = frame.terms.voucher_type_id
    return await queries.list_therapists_of(
        session, organization_id, voucher_type_id, locked=locked
    )


async def _on_demand(
    session: AsyncSession,
    frame: BookingFrame,
    candidates: Sequence[Resource],
    times: tuple[datetime, datetime],
    without_session_id: int | None,
) -> list[Target]:
    """Return a session on demand with each of some therapists, or one with nobody."""
    if not candidates:
        nobody = on_demand_session(*times, None, (), is_available=False, is_free=True)
        return [Target(nobody)]
    calendars = await availability.calendars_of(
        session,
        frame.organization_id,
        candidates,
        availability.Stretch.around(frame.zone, *times),
        without_session_id=without_session_id,
    )
    ids = [candidate.id for candidate in candidates]
    types = await queries.types_of_resources(session, frame.organization_id, ids)
    start, end = (instant_of(moment) for moment in times)
    return [
        Target(
            on_demand_session(
                *times,
                candidate,
                types.get(candidate.id, ()),
                is_available=availability.is_open(calendars[candidate.id], start, end),
                is_free=availability.is_free(calendars[candidate.id], start, end),
            ),
            therapist=candidate,
        )
        for candidate in candidates
    ]


async def _best(session: AsyncSession, frame: BookingFrame, targets: Sequence[Target]) -> Target:
    """Return the target with the fewest reasons, then the least booked therapist of that week."""
    if len(targets) == 1:
        return targets[0]
    day = targets[0].requested.starts_at.astimezone(frame.zone).date()
    monday = datetime.combine(day - timedelta(days=day.weekday()), datetime.min.time(), frame.zone)
    ids = [target.therapist.id for target in targets if target.therapist]
    busy = await queries.busy_times(
        session, frame.organization_id, ids, monday, monday + timedelta(days=7)
    )

    def rank(target: Target) -> tuple[int, int, int]:
        assert target.therapist is not None
        times = busy.get(target.therapist.id, ())
        reasons = len(reasons_against(frame.snapshot(target.requested)))
        return reasons, sum(until - first for first, until in times), target.therapist.id

    return min(targets, key=rank)


async def require_bookable(
    session: AsyncSession,
    frame: BookingFrame,
    target: Target,
    overrides: Collection[str],
    therapist_id: int | None,
) -> list[str]:
    """Return the codes of the reasons that were overridden.

    Raises the Conflict of the first reason that was not.
    """
    reasons = reasons_against(frame.snapshot(target.requested))
    if refusals := remaining(reasons, overrides):
        start = target.requested.starts_at
        raise refusal_of(refusals, await next_slots(session, frame, start, therapist_id))
    return [reason.code.value for reason in reasons]


def refusal_of(reasons: Sequence[BookingReason], slots: Sequence[Slot]) -> Conflict:
    """Return the error of the first reason, with all reasons and free times as members."""
    by_code = {error.code(): error for error in BOOKING_REFUSALS}
    error = by_code[reasons[0].code](reasons[0].detail)
    error.members = {
        "reasons": [read_reason(reason).model_dump(mode="json") for reason in reasons],
        "next_slots": [slot.model_dump(mode="json") for slot in slots],
    }
    return error


def read_reason(reason: BookingReason) -> ReasonRead:
    """Return a reason as it is reported."""
    return ReasonRead(
        code=reason.code,
        detail=reason.detail,
        overridable=reason.is_overridable,
        until=reason.until,
    )


async def _hold(
    session: AsyncSession, voucher: Voucher, frame: BookingFrame, target: Target
) -> ReservationState:
    """Return the state of a reservation that is held until it is confirmed, or paid.

    Raises TooManyHolds if the client holds as many times as a client may.
    """
    if await queries.count_checkout_holds(session, voucher, frame.now) >= MOST_HOLDS:
        raise TooManyHolds
    starts_at = target.requested.starts_at
    if voucher.status == VoucherStatus.PENDING:
        # It is bought with the session, which is held until it is paid.
        return hold_until(HeldFor.CHECKOUT, starts_at, starts_at)
    return checkout_state(frame, starts_at)
