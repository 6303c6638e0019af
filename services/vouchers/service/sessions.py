"""Use cases of single sessions: create, list, show, move, cancel."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import (
    CapacityTaken,
    SessionCancelled,
    SessionNotFound,
    SessionPast,
)
from services.vouchers.models import (
    ClassSession,
    OrganizationCopy,
    Reservation,
    SessionStatus,
    TherapyClass,
)
from services.vouchers.scheduling.periods import period_of
from services.vouchers.schemas.sessions import (
    Participant,
    SessionCreate,
    SessionDetail,
    SessionRead,
)
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.locked_sessions import (
    LockedSession,
    balance_of,
    end_session,
    lock_session,
    release,
)
from services.vouchers.service.occupations import (
    Placement,
    new_session,
    occupy,
    require_free,
    require_usable,
    resources_wanted,
)
from services.vouchers.service.reservation_states import moved_hold
from services.vouchers.service.waitlist import give_seats
from shared.actors import Actor, permission_missing
from shared.changes import record
from shared.db import now
from shared.errors import Invalid
from shared.preconditions import Precondition
from shared.tenancy import Tenant, limit_to

MOST_LISTED = 1000


async def list_sessions(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    stretch: tuple[datetime, datetime],
    *,
    therapist_id: int | None,
    therapy_class_id: int | None,
    status: SessionStatus | None,
    needs_reassignment: bool = False,
) -> list[SessionRead]:
    """Return an organization's sessions that begin in a stretch of time, at most 1,000.

    With `needs_reassignment`, of the scheduled ones whose therapist, room or equipment is out of
    use.

    Raises OrganizationNotFound.
    """
    access.require_member(actor, organization_id)
    rows = await queries.list_sessions(
        session,
        organization_id,
        *stretch,
        therapist_id=therapist_id,
        therapy_class_id=therapy_class_id,
        status=status,
        needs_reassignment=needs_reassignment,
        limit=MOST_LISTED,
    )
    names = await queries.names_of_classes(session, {row.therapy_class_id for row in rows})
    # What one client booked alone is no business of the others.
    is_staff = actor.is_admin or policies.is_employed(actor, organization_id)
    return [read_session(row, names) for row in rows if is_staff or not row.on_demand]


async def get_session(session: AsyncSession, actor: Actor, session_id: int) -> SessionDetail:
    """Return a session: with its participants for the staff, with its seats for clients.

    Raises SessionNotFound.
    """
    class_session = await queries.get_session(session, session_id)
    organization_id = class_session.organization_id
    if not policies.can_see_organization(actor, organization_id):
        raise SessionNotFound
    is_staff = actor.is_admin or policies.is_employed(actor, organization_id)
    participants = await queries.participants_of(session, session_id)
    is_own = any(policies.is_own(actor, row) for row, _ in participants)
    if class_session.on_demand and not (is_staff or is_own):
        raise SessionNotFound
    names = await queries.names_of_classes(session, {class_session.therapy_class_id})
    members = [_participant(row, name) for row, name in participants] if is_staff else None
    return SessionDetail(
        **read_session(class_session, names).model_dump(),
        notes=class_session.notes if is_staff else None,
        cancelled_reason=class_session.cancelled_reason if is_staff else None,
        participants=members,
    )


def _participant(reservation: Reservation, name: str | None) -> Participant:
    return Participant(
        reservation_id=reservation.id,
        client_id=reservation.client_id,
        client_name=name,
        voucher_id=reservation.voucher_id,
        status=reservation.status,
        version=reservation.version,
    )


def read_session(row: ClassSession, names: Mapping[int, str]) -> SessionRead:
    """Return a session with its times in the zone of its organization."""
    zone = ZoneInfo(row.timezone)
    return SessionRead(
        id=row.id,
        organization_id=row.organization_id,
        therapy_class_id=row.therapy_class_id,
        series_id=row.series_id,
        name=names.get(row.therapy_class_id or 0),
        starts_at=row.starts_at.astimezone(zone),
        ends_at=row.ends_at.astimezone(zone),
        timezone=row.timezone,
        therapist_id=row.therapist_id,
        resource_ids=row.resource_ids,
        capacity=row.capacity,
        seats_left=row.seats_left,
        on_demand=row.on_demand,
        status=SessionStatus(row.status),
        version=row.version,
    )


async def create_session(
    session: AsyncSession, actor: Actor, organization_id: int, body: SessionCreate
) -> SessionDetail:
    """Create a single session, of a class or of none.

    Raises OrganizationNotFound, Forbidden, ClassNotFound, ClientNotFound, ResourceNotFound,
    SessionPast, SlotTaken, RoomTaken, and Invalid if neither body nor class state what is needed.
    """
    access.require_booking_manager(actor, organization_id)
    organization = await queries.get_organization(session, organization_id)
    therapy_class = None
    if body.therapy_class_id is not None:
        therapy_class = await queries.get_class(session, organization_id, body.therapy_class_id)
    plan = _plan_of(body, therapy_class)
    _require_future(body.starts_at)
    placement = await _place(
        session, organization, body.starts_at, plan["duration_minutes"], plan["resources"]
    )
    if not body.allow_overlap:
        await require_free(session, organization_id, placement)
    class_session = new_session(
        organization_id,
        placement,
        therapy_class_id=body.therapy_class_id,
        capacity=plan["capacity"],
        notes=body.notes,
    )
    session.add(class_session)
    record(session, "CREATE", class_session)
    await session.flush()
    await occupy(session, class_session, placement, enforced=not body.allow_overlap)
    return await get_session(session, actor, class_session.id)


def _plan_of(body: SessionCreate, therapy_class: TherapyClass | None) -> dict[str, Any]:
    """Return duration, capacity and resources: those of the body, or of the class."""
    duration, capacity = body.duration_minutes, body.capacity
    therapist_id, things = body.therapist_id, body.resource_ids
    if therapy_class is not None:
        duration = duration or therapy_class.duration_minutes
        capacity = capacity or therapy_class.capacity
        therapist_id = therapist_id or therapy_class.therapist_id
        if things is None and therapy_class.room_id is not None:
            things = [therapy_class.room_id]
    if not duration:
        raise Invalid("duration_minutes", "is needed for a session without a class")
    resources = (therapist_id, tuple(things or ()))
    return {"duration_minutes": duration, "capacity": capacity or 1, "resources": resources}


def _require_future(starts_at: datetime) -> None:
    if starts_at <= now():
        raise SessionPast
    if starts_at.second or starts_at.microsecond:
        raise Invalid("starts_at", "must be a whole minute")


async def _place(
    session: AsyncSession,
    organization: OrganizationCopy,
    starts_at: datetime,
    duration_minutes: int,
    wanted: tuple[int | None, Sequence[int]],
) -> Placement:
    """Return the place of a session, whose resources are locked from now on."""
    ids = await resources_wanted(session, organization.id, *wanted)
    resources = await queries.lock_resources(session, organization.id, ids)
    require_usable(resources)
    ends_at = starts_at + timedelta(minutes=duration_minutes)
    return Placement(ZoneInfo(organization.timezone), starts_at, ends_at, resources)


async def get_changeable(session: AsyncSession, actor: Actor, session_id: int) -> ClassSession:
    """Return a session that the actor may move, cancel and mark, and see its organization's rows.

    Raises SessionNotFound or Forbidden.
    """
    class_session = await queries.get_session(session, session_id)
    organization_id = class_session.organization_id
    if not policies.can_see_organization(actor, organization_id):
        raise SessionNotFound
    if class_session.on_demand and not (
        actor.is_admin or policies.is_employed(actor, organization_id)
    ):
        raise SessionNotFound
    if not policies.can_mark(actor, class_session):
        raise permission_missing(policies.MANAGE_BOOKINGS)
    await limit_to(session, Tenant(organization_id, actor.user_id))
    return class_session


async def update_session(
    session: AsyncSession,
    actor: Actor,
    session_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> SessionDetail:
    """Change a session. A new time, length or therapist is that of all reservations.

    Raises SessionNotFound, Forbidden, StaleVersion, SessionCancelled, SessionPast, SlotTaken,
    RoomTaken, ClientBusy, CapacityTaken, ClientNotFound, ResourceNotFound, ServiceUnavailable.
    """
    class_session = await get_changeable(session, actor, session_id)
    organization = await queries.get_organization(session, class_session.organization_id)
    resource_ids = await _new_resources(session, class_session, changes)
    party = await lock_session(session, class_session, resource_ids)
    precondition.check(party.row.version)
    if party.row.status == SessionStatus.CANCELLED:
        raise SessionCancelled
    if changes.get("capacity"):
        if changes["capacity"] < party.row.seats_taken:
            raise CapacityTaken
        party.row.capacity = changes["capacity"]
    if "notes" in changes:
        party.row.notes = changes["notes"]
    if changes.keys() & {"starts_at", "duration_minutes", "therapist_id", "resource_ids"}:
        await _move(session, organization, party, changes)
    elif session.is_modified(party.row):
        record(session, "UPDATE", party.row)
    await flush_booking(session)
    await give_seats(session, party.row, party.row)
    return await get_session(session, actor, session_id)


async def _new_resources(
    session: AsyncSession, class_session: ClassSession, changes: Mapping[str, Any]
) -> list[int]:
    """Return the ids of the resources that a session has after a change."""
    organization_id = class_session.organization_id
    therapist_id = changes.get("therapist_id", class_session.therapist_id)
    things = changes.get("resource_ids")
    if things is None:
        others = await queries.find_resources(session, organization_id, class_session.resource_ids)
        things = [resource.id for resource in others if resource.user_id is None]
    return await resources_wanted(session, organization_id, therapist_id, things)


async def _move(
    session: AsyncSession,
    organization: OrganizationCopy,
    party: LockedSession,
    changes: Mapping[str, Any],
) -> None:
    """Move a locked session, and everybody who has a place in it, and record it."""
    row = party.row
    starts_at = changes.get("starts_at") or row.starts_at
    length = row.ends_at - row.starts_at
    if minutes := changes.get("duration_minutes"):
        length = timedelta(minutes=minutes)
    if starts_at != row.starts_at:
        _require_future(starts_at)
    placement = Placement(
        ZoneInfo(organization.timezone), starts_at, starts_at + length, party.resources
    )
    is_enforced = await queries.is_enforced(session, row.id)
    if is_enforced:
        await require_free(session, row.organization_id, placement, without_session_id=row.id)
    row.starts_at, row.ends_at = placement.starts_at, placement.ends_at
    row.starts_local, row.timezone = placement.starts_local, placement.zone.key
    row.therapist_id, row.resource_ids = placement.therapist_id, placement.resource_ids
    await _move_reservations(session, party, placement)
    await queries.delete_occupations(session, [row.id])
    await occupy(session, row, placement, enforced=is_enforced)


async def _move_reservations(
    session: AsyncSession, party: LockedSession, placement: Placement
) -> None:
    """Give the reservations of a moved session its times and their new periods.

    A voucher that has another session in the new period keeps both: the organization decided it.
    """
    record(session, "MOVE", party.row, reservations=len(party.reservations))
    organization_id, vouchers = party.row.organization_id, party.vouchers
    periods = await queries.periods_taken(session, organization_id, vouchers.keys())
    day = placement.starts_at.astimezone(placement.zone).date()
    for reservation in party.reservations:
        reservation.held_until = moved_hold(reservation, placement.starts_at)
        reservation.starts_at, reservation.ends_at = placement.starts_at, placement.ends_at
        voucher = vouchers.get(reservation.voucher_id or 0)
        if voucher is not None and reservation.period is not None:
            period = period_of(voucher.frequency, day, voucher.valid_from)
            others = {(v, p) for v, p, number in periods if number != reservation.id}
            reservation.period = None if (voucher.id, period) in others else period
        record(session, "RESCHEDULE", reservation, **balance_of(reservation, voucher))
    await flush_booking(session)


async def cancel_session(
    session: AsyncSession, actor: Actor, session_id: int, reason: str | None
) -> SessionDetail:
    """Cancel a session; its reservations are cancelled without charge.

    Raises SessionNotFound, Forbidden, SessionCancelled, SessionPast, ServiceUnavailable.
    """
    class_session = await get_changeable(session, actor, session_id)
    party = await lock_session(session, class_session)
    if party.row.status == SessionStatus.CANCELLED:
        raise SessionCancelled
    if party.row.starts_at <= now():
        raise SessionPast("The session has begun already. Mark who took part instead.")
    for reservation in party.reservations:
        voucher = party.vouchers.get(reservation.voucher_id or 0)
        release(session, reservation, voucher, party.row, reason="session_cancelled")
    await end_session(session, party.row, reason)
    return await get_session(session, actor, session_id)
