"""The time that sessions take of therapists, rooms and equipment."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.errors import ClientNotFound, ResourceNotFound, RoomTaken, SlotTaken
from services.vouchers.models import ClassSession, Occupation, Resource, ResourceKind, SessionStatus
from services.vouchers.scheduling.wallclock import instant_of
from services.vouchers.service import availability
from services.vouchers.service.booking_conflicts import flush_booking
from shared.db import now
from shared.transactions import Transactions

_HISTORY = timedelta(days=30)
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and when a session is: its times, its organization's zone and its locked resources."""

    zone: ZoneInfo
    starts_at: datetime
    ends_at: datetime
    resources: Sequence[Resource]

    @property
    def times(self) -> tuple[datetime, datetime]:
        """The start and the end."""
        return self.starts_at, self.ends_at

    @property
    def starts_local(self) -> datetime:
        """What the clock of the organization shows at the start."""
        return self.starts_at.astimezone(self.zone).replace(tzinfo=None)

    @property
    def therapist_id(self) -> int | None:
        """The user of the first therapist, or None."""
        return next((r.user_id for r in self.resources if r.user_id is not None), None)

    @property
    def resource_ids(self) -> list[int]:
        """The ids of the resources."""
        return [resource.id for resource in self.resources]


async def resources_wanted(
    session: AsyncSession,
    organization_id: int,
    therapist_id: int | None,
    resource_ids: Collection[int],
) -> list[int]:
    """Return the ids of a therapist's resource and of rooms and equipment.

    Raises ClientNotFound for a user who is no therapist of the organization.
    """
    if therapist_id is None:
        return list(resource_ids)
    therapist = await queries.find_therapist(session, organization_id, therapist_id)
    if therapist is None:
        raise ClientNotFound("There is no such therapist in this organization. Check the id.")
    return [therapist.id, *resource_ids]


def require_usable(resources: Sequence[Resource]) -> None:
    """Raise ResourceNotFound if one of some resources is out of use."""
    if not all(resource.is_active for resource in resources):
        raise ResourceNotFound("One of the resources is not in use any more. Choose another one.")


async def require_free(
    session: AsyncSession,
    organization_id: int,
    placement: Placement,
    *,
    without_session_id: int | None = None,
) -> None:
    """Raise SlotTaken or RoomTaken if a locked resource is in another session at the time."""
    stretch = availability.Stretch.around(placement.zone, placement.starts_at, placement.ends_at)
    calendars = await availability.calendars_of(
        session,
        organization_id,
        placement.resources,
        stretch,
        without_session_id=without_session_id,
    )
    start, end = instant_of(placement.starts_at), instant_of(placement.ends_at)
    for resource in sorted(placement.resources, key=lambda r: r.kind != ResourceKind.THERAPIST):
        if not availability.is_free(calendars[resource.id], start, end):
            raise SlotTaken if resource.kind == ResourceKind.THERAPIST else RoomTaken


async def occupy(
    session: AsyncSession, class_session: ClassSession, placement: Placement, *, enforced: bool
) -> None:
    """Block the time of a session's resources. The session must have an id. Raises SlotTaken."""
    session.add_all(occupations_of(class_session, placement, enforced=enforced))
    await flush_booking(session)


def occupations_of(
    class_session: ClassSession, placement: Placement, *, enforced: bool = True
) -> list[Occupation]:
    """Return what a session with an id occupies at a place: one row for each resource."""
    rows = occupation_columns(
        class_session.organization_id, class_session.id, placement, enforced=enforced
    )
    return [Occupation(**columns) for columns in rows]


def occupation_columns(
    organization_id: int, session_id: int, placement: Placement, *, enforced: bool = True
) -> list[dict[str, Any]]:
    """Return the columns of what a session occupies at a place: one row for each resource."""
    return [
        {
            "organization_id": organization_id,
            "session_id": session_id,
            "resource_id": resource.id,
            "blocked": Range(
                *availability.blocked_time(resource, placement.starts_at, placement.ends_at)
            ),
            "enforced": enforced,
        }
        for resource in placement.resources
    ]


def new_session(organization_id: int, placement: Placement, **columns: object) -> ClassSession:
    """Return a scheduled session at a place and time."""
    return ClassSession(**session_columns(organization_id, placement, **columns))


def session_columns(
    organization_id: int, placement: Placement, **columns: object
) -> dict[str, Any]:
    """Return the columns of a scheduled session at a place and time."""
    return {
        "organization_id": organization_id,
        "starts_at": placement.starts_at,
        "ends_at": placement.ends_at,
        "timezone": placement.zone.key,
        "starts_local": placement.starts_local,
        "therapist_id": placement.therapist_id,
        "resource_ids": placement.resource_ids,
        "seats_taken": 0,
        "status": SessionStatus.SCHEDULED,
        **columns,
    }


async def delete_history(transactions: Transactions) -> int:
    """Delete the occupations of sessions that ended 30 days ago; return their number.

    The index by which overlaps are refused then has the present and the future only.
    """
    async with transactions.system() as session:
        return await queries.delete_old_occupations(session, now() - _HISTORY, _BATCH)
