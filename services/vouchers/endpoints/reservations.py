"""Routes of slots and reservations."""

from typing import Annotated

from fastapi import Query, Response

from services.vouchers.endpoints.dependencies import DaysDep
from services.vouchers.errors import (
    BOOKING_REFUSALS,
    HoldLapsed,
    LateCancellation,
    NoSuchTime,
    NoticePassed,
    NotStarted,
    OrganizationNotFound,
    ReservationNotFound,
    ReservationSettled,
    SessionNotFound,
    StartOffGrid,
    TooManyHolds,
    VoucherNotFound,
    VoucherTypeNotFound,
    WaitlistClosed,
)
from services.vouchers.scheduling.snapshots import ReservationStatus
from services.vouchers.schemas.reservations import (
    AttendanceMark,
    CancellationPrice,
    EligibilityRead,
    MarkRead,
    Reschedule,
    ReservationCancel,
    ReservationCreate,
    ReservationRead,
    ReservationResult,
    SessionChoice,
    Slot,
    SlotDay,
)
from services.vouchers.schemas.series_booking import SeriesBooking, SeriesBookingResult
from services.vouchers.schemas.sessions import Attendance
from services.vouchers.service import attendance, booking, holds, series_booking, slots
from services.vouchers.service import reservations as service
from services.vouchers.service.reservations import ReservationFilters
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, ServiceUnavailable, Unauthenticated, responses
from shared.fields import Id, Instant, QueryFlag, QueryId
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.preconditions import TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import SessionDep

of_vouchers = router(
    prefix="/api/vouchers/{voucher_id}",
    tags=["bookings"],
    responses=responses(Unauthenticated, Forbidden, VoucherNotFound, Invalid),
)
of_types = router(
    prefix="/api/voucher-types",
    tags=["bookings"],
    responses=responses(Unauthenticated, Invalid),
)
reservations = router(
    prefix="/api/reservations",
    tags=["bookings"],
    responses=responses(Unauthenticated, Invalid),
)
of_sessions = router(
    prefix="/api/sessions",
    tags=["bookings"],
    responses=responses(Unauthenticated, Forbidden, SessionNotFound, Invalid),
)
organization = router(
    prefix="/api/organizations/{organization_id}",
    tags=["bookings"],
    responses=responses(Unauthenticated, Forbidden, OrganizationNotFound, Invalid),
)

From = Annotated[Instant | None, Query(alias="from", description="Sessions from this moment on")]
Until = Annotated[Instant | None, Query(description="Sessions before this moment")]
_NOT_FOUND = responses(ReservationNotFound)
_MARK = responses(Forbidden, ReservationNotFound, NotStarted, ReservationSettled)


def _tagged(response: TaggedResponse, result: ReservationResult) -> ReservationResult:
    set_etag(response, result.version)
    return result


@of_vouchers.get("/slots", response_model=list[Slot])
async def list_slots(
    response: Response,
    voucher_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    days: DaysDep,
    therapist_id: QueryId | None = None,
) -> Response:
    """List what the voucher can book: sessions with free seats, and free times of therapists."""
    body = await slots.list_slots(session, actor, page, voucher_id, days, therapist_id)
    return json_response(response, body)


@of_vouchers.get("/slot-days")
async def list_slot_days(
    voucher_id: Id, session: SessionDep, actor: ActorDep, days: DaysDep
) -> list[SlotDay]:
    """List days with the number of their slots, for a month view."""
    return await slots.list_slot_days(session, actor, voucher_id, days)


@of_types.get(
    "/{voucher_type_id}/slots",
    response_model=list[Slot],
    responses=responses(VoucherTypeNotFound),
)
async def list_offered_slots(
    response: Response,
    voucher_type_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    days: DaysDep,
    therapist_id: QueryId | None = None,
) -> Response:
    """List what a voucher of this type could book if it were bought today."""
    body = await slots.list_offered_slots(session, actor, page, voucher_type_id, days, therapist_id)
    return json_response(response, body)


@of_vouchers.post("/eligibility", responses=responses(SessionNotFound, StartOffGrid))
async def check_eligibility(
    voucher_id: Id, body: SessionChoice, session: SessionDep, actor: ActorDep
) -> EligibilityRead:
    """Report every reason against a booking, and the next free times. Nothing changes."""
    return await booking.judge(session, actor, voucher_id, body)


@of_vouchers.post(
    "/reservations",
    status_code=201,
    responses=responses(
        SessionNotFound, StartOffGrid, TooManyHolds, WaitlistClosed, *BOOKING_REFUSALS
    ),
)
async def book_session(
    voucher_id: Id,
    body: ReservationCreate,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> ReservationResult:
    """Book a session, hold it until it is confirmed, or wait for a seat. A refusal lists every
    reason, and the next free times."""
    return _tagged(response, await service.book(session, actor, voucher_id, body))


@of_vouchers.post(
    "/reservations/series", responses=responses(StartOffGrid, NoSuchTime, *BOOKING_REFUSALS)
)
async def book_series(
    voucher_id: Id, body: SeriesBooking, session: SessionDep, actor: ActorDep
) -> SeriesBookingResult:
    """Book one time of the week for many sessions, in one transaction.

    The response lists each date with its reservation, or with every reason against it and the
    nearest free times.
    """
    return await series_booking.book_series(session, actor, voucher_id, body)


@of_vouchers.get("/reservations")
async def list_voucher_reservations(
    voucher_id: Id, session: SessionDep, actor: ActorDep, page: PageDep
) -> list[ReservationRead]:
    """List the voucher's reservations, newest first."""
    return await service.list_of_voucher(session, actor, page, voucher_id)


@reservations.get("/my")
async def list_my_reservations(
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    start: From = None,
    until: Until = None,
    status: ReservationStatus | None = None,
) -> list[ReservationRead]:
    """List one's own reservations, newest first."""
    return await service.list_own(session, actor, page, first=start, last=until, status=status)


@reservations.get("/{reservation_id}", responses=_NOT_FOUND)
async def get_reservation(
    reservation_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> ReservationResult:
    """Show a reservation."""
    return _tagged(response, await service.get_reservation(session, actor, reservation_id))


@reservations.get(
    "/{reservation_id}/cancellation", responses=responses(ReservationNotFound, ReservationSettled)
)
async def show_cancellation(
    reservation_id: Id, session: SessionDep, actor: ActorDep
) -> CancellationPrice:
    """Show what a cancellation would cost now."""
    return await service.price_of_cancellation(session, actor, reservation_id)


@reservations.post(
    "/{reservation_id}/confirm",
    responses=responses(
        Forbidden, ReservationNotFound, ReservationSettled, HoldLapsed, *BOOKING_REFUSALS
    ),
)
async def confirm_reservation(
    reservation_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> ReservationResult:
    """Confirm a held reservation. The client confirms a time that is held and an offered seat;
    users with the permission manage_bookings approve a request. Who declines cancels it."""
    return _tagged(response, await holds.confirm(session, actor, reservation_id))


@reservations.post(
    "/{reservation_id}/cancel",
    responses=responses(ReservationNotFound, ReservationSettled, LateCancellation),
)
async def cancel_reservation(
    reservation_id: Id,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
    body: ReservationCancel | None = None,
) -> ReservationResult:
    """Cancel a reservation. A late one costs what its `cancellation` states, if it is accepted."""
    order = body or ReservationCancel()
    return _tagged(response, await service.cancel(session, actor, reservation_id, order))


@reservations.post(
    "/{reservation_id}/reschedule",
    responses=responses(
        Forbidden,
        ReservationNotFound,
        SessionNotFound,
        ReservationSettled,
        HoldLapsed,
        NoticePassed,
        StartOffGrid,
        *BOOKING_REFUSALS,
    ),
)
async def reschedule_reservation(
    reservation_id: Id,
    body: Reschedule,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
) -> ReservationResult:
    """Move a reservation to another session."""
    return _tagged(response, await service.reschedule(session, actor, reservation_id, body))


@reservations.post("/{reservation_id}/attend", responses=_MARK)
async def mark_attended(
    reservation_id: Id,
    session: SessionDep,
    actor: ActorDep,
    response: TaggedResponse,
    body: AttendanceMark | None = None,
) -> ReservationResult:
    """Mark that the client took part; a session of the voucher is redeemed."""
    mark = body or AttendanceMark()
    result = await attendance.mark_reservation(
        session, actor, reservation_id, ReservationStatus.ATTENDED, mark.attestation
    )
    return _tagged(response, result)


@reservations.post("/{reservation_id}/no-show", responses=_MARK)
async def mark_missed(
    reservation_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> ReservationResult:
    """Mark that the client did not come; the booking policy decides what it costs."""
    result = await attendance.mark_reservation(
        session, actor, reservation_id, ReservationStatus.NO_SHOW
    )
    return _tagged(response, result)


@of_sessions.put(
    "/{class_session_id}/attendance",
    responses=responses(ReservationNotFound, NotStarted, ReservationSettled, ServiceUnavailable),
)
async def mark_attendance(
    class_session_id: Id, body: Attendance, session: SessionDep, actor: ActorDep
) -> list[MarkRead]:
    """Mark the clients of a session: all marks are applied, or none."""
    return await attendance.mark_session(session, actor, class_session_id, body.marks)


@organization.get("/reservations")
async def list_organization_reservations(
    organization_id: Id,
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    start: From = None,
    until: Until = None,
    status: ReservationStatus | None = None,
    client_id: QueryId | None = None,
    therapist_id: QueryId | None = None,
    unmarked: QueryFlag = False,
) -> list[ReservationRead]:
    """List the organization's reservations, newest first. Therapists see those of their sessions.

    `unmarked` lists those whose session has ended and that nobody marked.
    """
    filters = ReservationFilters(
        first=start,
        last=until,
        status=status,
        client_id=client_id,
        therapist_id=therapist_id,
        unmarked=unmarked,
    )
    return await service.list_of_organization(session, actor, page, organization_id, filters)
