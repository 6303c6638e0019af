"""Use cases of reservations: show, list, cancel, move, mark."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import (
    HoldLapsed,
    LateCancellation,
    NoticePassed,
    ReservationNotFound,
    ReservationSettled,
)
from services.vouchers.models import ClassSession, HeldFor, Reservation
from services.vouchers.scheduling.snapshots import OPEN_STATUSES, ReservationStatus
from services.vouchers.schemas.booking_policy import BookingPolicy, Penalty
from services.vouchers.schemas.reservations import (
    CancellationPrice,
    Reschedule,
    ReservationCancel,
    ReservationCreate,
    ReservationRead,
    ReservationResult,
)
from services.vouchers.service import booking, moves
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.booking_frame import frame_of
from services.vouchers.service.booking_settings import policy_for
from services.vouchers.service.charges import Place, charge_of, settle
from services.vouchers.service.locked_sessions import balance_of, end_session, release
from services.vouchers.service.reservation_states import DECLINED, accepted_state
from services.vouchers.service.waitlist import give_seats
from shared.actors import Actor, permission_missing
from shared.changes import record
from shared.db import now
from shared.failpoints import failpoint
from shared.paging import Page
from shared.tenancy import Tenant, limit_to, see_all_tenants

CANCELLABLE = OPEN_STATUSES | {ReservationStatus.WAITLISTED}
"""The states of a reservation that can be cancelled: it is open, or waits for a seat."""


async def book(
    session: AsyncSession, actor: Actor, voucher_id: int, body: ReservationCreate
) -> ReservationResult:
    """Book a session with a voucher. Raises what `booking.book` does."""
    place, frame = await booking.book(session, actor, voucher_id, body)
    return await result_of(session, place, frame.policy)


async def get_reservation(
    session: AsyncSession, actor: Actor, reservation_id: int
) -> ReservationResult:
    """Return a reservation. Raises ReservationNotFound."""
    return await result_of(session, await get_visible_place(session, actor, reservation_id))


async def list_own(
    session: AsyncSession,
    actor: Actor,
    page: Page,
    *,
    first: datetime | None,
    last: datetime | None,
    status: ReservationStatus | None,
) -> list[ReservationRead]:
    """Return a page of the reservations of the actor and of the actor's dependants, newest first,
    in every organization."""
    await see_all_tenants(session)
    rows = await queries.page_of_own_reservations(
        session, page, actor.user_id, first=first, last=last, status=status
    )
    return [read_reservation(place, row, name) for place, row, name in rows]


async def list_of_voucher(
    session: AsyncSession, actor: Actor, page: Page, voucher_id: int
) -> list[ReservationRead]:
    """Return a page of a voucher's reservations, newest first.

    Raises VoucherNotFound, and Forbidden for staff who do not book.
    """
    voucher = await access.get_bookable_voucher(session, actor, voucher_id)
    await limit_to(session, Tenant(voucher.organization_id, actor.user_id))
    rows = await queries.page_of_voucher_reservations(session, page, voucher)
    return [read_reservation(place, row, name) for place, row, name in rows]


@dataclass(frozen=True, slots=True)
class ReservationFilters:
    """Which reservations of an organization a list contains."""

    first: datetime | None = None
    last: datetime | None = None
    status: ReservationStatus | None = None
    client_id: int | None = None
    therapist_id: int | None = None
    unmarked: bool = False


async def list_of_organization(
    session: AsyncSession,
    actor: Actor,
    page: Page,
    organization_id: int,
    filters: ReservationFilters,
) -> list[ReservationRead]:
    """Return a page of an organization's reservations, newest first; therapists see their own.

    Raises OrganizationNotFound or Forbidden.
    """
    access.require_member(actor, organization_id)
    therapist_id = filters.therapist_id
    if not policies.can_manage_bookings(actor, organization_id):
        if not policies.is_therapist(actor, organization_id):
            raise permission_missing(policies.MANAGE_BOOKINGS)
        therapist_id = actor.user_id
    rows = await queries.page_of_organization_reservations(
        session,
        page,
        organization_id,
        first=filters.first,
        last=filters.last,
        status=filters.status,
        client_id=filters.client_id,
        therapist_id=therapist_id,
        unmarked_before=now() if filters.unmarked else None,
    )
    return [read_reservation(place, row, name) for place, row, name in rows]


async def get_visible_place(session: AsyncSession, actor: Actor, reservation_id: int) -> Place:
    """Return a reservation that the actor may see, detached, and see its organization's rows.

    Raises ReservationNotFound.
    """
    reservation = await queries.get_reservation(session, reservation_id)
    organization_id = reservation.organization_id
    is_own = policies.is_own(actor, reservation)
    if not is_own and not policies.can_see_organization(actor, organization_id):
        raise ReservationNotFound
    await limit_to(session, Tenant(organization_id, actor.user_id))
    place = await place_of(session, reservation)
    if not is_own and not policies.can_mark(actor, place.session):
        raise ReservationNotFound
    return place


async def place_of(session: AsyncSession, reservation: Reservation) -> Place:
    """Return a reservation with its session and its voucher, detached."""
    row = await queries.get_session(session, reservation.session_id)
    voucher = None
    if reservation.voucher_id is not None:
        voucher, _ = await queries.get_voucher_with_zone(session, reservation.voucher_id)
    return Place(reservation, row, voucher)


async def get_markable(
    session: AsyncSession, actor: Actor, reservation_id: int, *, session_id: int | None = None
) -> Place:
    """Return a reservation that the actor may mark, of a session if one is named.

    Raises ReservationNotFound or Forbidden.
    """
    place = await get_visible_place(session, actor, reservation_id)
    if session_id is not None and place.session.id != session_id:
        raise ReservationNotFound
    if not policies.can_mark(actor, place.session):
        raise permission_missing(policies.MANAGE_BOOKINGS)
    return place


async def lock_place(session: AsyncSession, place: Place) -> Place:
    """Lock a reservation, its voucher and its session in the usual order; read them again."""
    voucher = None
    if place.voucher is not None:
        voucher = await queries.lock_voucher(session, place.voucher.id)
    session_id = place.reservation.session_id
    rows = await queries.lock_sessions(session, [session_id])
    [reservation] = await queries.reread_reservations(session, [place.reservation.id])
    if reservation.session_id != session_id:
        raise ReservationSettled("The reservation was moved at the same time. Read it again.")
    return Place(reservation, rows[session_id], voucher)


async def price_of_cancellation(
    session: AsyncSession, actor: Actor, reservation_id: int
) -> CancellationPrice:
    """Return what a cancellation would cost now. Raises ReservationNotFound, ReservationSettled."""
    place = await get_visible_place(session, actor, reservation_id)
    return await _price(session, actor, place)


async def cancel(
    session: AsyncSession, actor: Actor, reservation_id: int, body: ReservationCancel
) -> ReservationResult:
    """Cancel a reservation: free in time and by the organization, late by the booking policy.

    Raises ReservationNotFound, ReservationSettled, and LateCancellation for a client who has not
    accepted the charge.
    """
    place = await lock_place(session, await get_visible_place(session, actor, reservation_id))
    price = await _price(session, actor, place)
    failpoint("cancellation.locked")
    reservation, row, voucher = place.reservation, place.session, place.voucher
    if price.late and reservation.status == ReservationStatus.BOOKED:
        if not body.accept_charge:
            error = LateCancellation()
            error.members = {"cancellation": price.model_dump(mode="json")}
            raise error
        row.seats_taken -= 1
        reservation.reason = body.reason
        await settle(session, place, ReservationStatus.LATE_CANCELLED, price.charges, actor.user_id)
    else:
        reason = body.reason or _refusal_in(actor, reservation)
        release(session, reservation, voucher, row, reason=reason)
    await leave(session, row, reservation)
    await flush_booking(session)
    failpoint("cancellation.written")
    return await result_of(session, place)


def _refusal_in(actor: Actor, reservation: Reservation) -> str | None:
    """Return why a held reservation is cancelled: the organization declines the request of a
    client, or the client the offer of a seat."""
    is_client = policies.is_own(actor, reservation)
    declines_request = reservation.held_for == HeldFor.APPROVAL and not is_client
    declines_offer = reservation.held_for == HeldFor.OFFER and is_client
    return DECLINED if declines_request or declines_offer else None


async def leave(session: AsyncSession, row: ClassSession, cause: Reservation | None = None) -> None:
    """Do what follows when a place in a locked session becomes free, because of a reservation.

    A session on demand ends with its last reservation. One of a class stays, empty or not, and the
    seat is given to its waiting list.
    """
    if not row.on_demand:
        await give_seats(session, row, cause)
    elif row.seats_taken == 0:
        await end_session(session, row, None)


async def _price(session: AsyncSession, actor: Actor, place: Place) -> CancellationPrice:
    reservation, voucher = place.reservation, place.voucher
    if reservation.status not in CANCELLABLE:
        raise ReservationSettled
    policy = await _policy(session, place)
    free_until = _free_until(reservation, policy)
    # Who cancels for the organization charges nobody: a no-show is marked instead.
    is_client = policies.is_own(actor, reservation)
    is_late = is_client and now() > free_until and reservation.status == ReservationStatus.BOOKED
    penalty = policy.late_cancel if is_late else Penalty.NONE
    return CancellationPrice(
        late=is_late,
        charges=charge_of(penalty, voucher),
        free_until=free_until,
        bookable_sessions=voucher.bookable_sessions if voucher else None,
        backup_sessions_left=voucher.backup_sessions_left if voucher else None,
    )


async def _policy(session: AsyncSession, place: Place) -> BookingPolicy:
    return await policy_for(session, place.reservation.organization_id, place.voucher)


def _free_until(reservation: Reservation, policy: BookingPolicy) -> datetime:
    return reservation.starts_at - timedelta(minutes=policy.notice_minutes)


async def reschedule(
    session: AsyncSession, actor: Actor, reservation_id: int, body: Reschedule
) -> ReservationResult:
    """Move a reservation to another session: the same row and earmark, in one transaction.

    Raises ReservationNotFound, ReservationSettled, HoldLapsed, SessionNotFound, StartOffGrid,
    NoticePassed for a client after the time of notice, and the Conflict of the first reason against
    the new session.
    """
    place = await get_visible_place(session, actor, reservation_id)
    if place.voucher is None or place.reservation.status not in OPEN_STATUSES:
        raise ReservationSettled
    voucher = await queries.lock_voucher(session, place.voucher.id)
    [reservation] = await queries.reread_reservations(session, [reservation_id])
    if reservation.status not in OPEN_STATUSES:
        raise ReservationSettled
    require_not_lapsed(reservation)
    frame = await frame_of(session, voucher, moved=reservation)
    booking.require_allowed(actor, voucher, frame, body)
    is_client = policies.is_own(actor, reservation)
    if is_client and now() > _free_until(reservation, frame.policy):
        raise NoticePassed
    target, old = await moves.lock_move(session, frame, body, reservation)
    booking.require_own_session(actor, voucher, target)
    await booking.require_bookable(session, frame, target, (), body.therapist_id)
    row = await moves.move(session, frame, reservation, voucher, target, old)
    if is_client and reservation.status == ReservationStatus.BOOKED:
        # What the organization may have approved was another time.
        accepted_state(frame, row.starts_at, by_client=True).apply_to(reservation)
    record(session, "RESCHEDULE", reservation, **balance_of(reservation, voucher))
    await leave(session, old, reservation)
    await flush_booking(session)
    return await result_of(session, Place(reservation, row, voucher), frame.policy)


def require_not_lapsed(reservation: Reservation) -> None:
    """Raise HoldLapsed for a reservation that is held until a time that is over."""
    if reservation.held_until is not None and reservation.held_until <= now():
        raise HoldLapsed


async def result_of(
    session: AsyncSession, place: Place, policy: BookingPolicy | None = None
) -> ReservationResult:
    """Return a reservation with its balance and until when it can be cancelled for free.

    `policy` is the effective one if it was read already.
    """
    reservation, voucher = place.reservation, place.voucher
    name = await queries.find_class_name(session, place.session.therapy_class_id)
    position = None
    if reservation.status == ReservationStatus.WAITLISTED:
        position = await queries.waiting_position(session, reservation)
    free_until = None
    if reservation.status in OPEN_STATUSES:
        policy = policy or await _policy(session, place)
        zone = ZoneInfo(place.session.timezone)
        free_until = _free_until(reservation, policy).astimezone(zone)
    return ReservationResult(
        **read_reservation(reservation, place.session, name).model_dump(),
        waiting_position=position,
        free_until=free_until,
        bookable_sessions=voucher.bookable_sessions if voucher else None,
        booked_sessions=voucher.booked_sessions if voucher else None,
        regular_sessions_left=voucher.regular_sessions_left if voucher else None,
        backup_sessions_left=voucher.backup_sessions_left if voucher else None,
    )


def read_reservation(
    reservation: Reservation, row: ClassSession, name: str | None
) -> ReservationRead:
    """Return a reservation with its times in the zone of its session."""
    zone = ZoneInfo(row.timezone)
    others = {"session_name", "therapist_id", "starts_at", "ends_at", "timezone", "held_until"}
    names = ReservationRead.model_fields.keys() - others
    values = {field: getattr(reservation, field) for field in names}
    held_until = reservation.held_until
    return ReservationRead(
        session_name=name,
        therapist_id=row.therapist_id,
        starts_at=reservation.starts_at.astimezone(zone),
        ends_at=reservation.ends_at.astimezone(zone),
        timezone=row.timezone,
        held_until=held_until.astimezone(zone) if held_until else None,
        **values,
    )
