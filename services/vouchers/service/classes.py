"""Use cases of classes: the kinds of sessions that an organization offers."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, queries
from services.vouchers.models import ClassVoucherType, ResourceKind, TherapyClass
from services.vouchers.schemas.sessions import ClassCreate, ClassRead
from services.vouchers.service.occupations import resources_wanted
from services.vouchers.service.type_limits import read_limited, require_voucher_types
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Invalid
from shared.paging import Page
from shared.preconditions import Precondition


async def list_classes(
    session: AsyncSession, actor: Actor, page: Page, organization_id: int, *, is_active: bool | None
) -> list[ClassRead]:
    """Return a page of an organization's classes, newest first. Raises OrganizationNotFound."""
    access.require_member(actor, organization_id)
    rows = await queries.page_of_classes(session, page, organization_id, is_active=is_active)
    types = await queries.types_of_classes(session, organization_id, [row.id for row in rows])
    return [read_limited(ClassRead, row, types) for row in rows]


async def get_class(
    session: AsyncSession, actor: Actor, organization_id: int, class_id: int
) -> ClassRead:
    """Return a class. Raises OrganizationNotFound or ClassNotFound."""
    access.require_member(actor, organization_id)
    return await _read_one(session, await queries.get_class(session, organization_id, class_id))


async def create_class(
    session: AsyncSession, actor: Actor, organization_id: int, body: ClassCreate
) -> ClassRead:
    """Create a class.

    Raises OrganizationNotFound, Forbidden, ClientNotFound, ResourceNotFound, and Invalid.
    """
    access.require_booking_manager(actor, organization_id)
    await queries.get_organization(session, organization_id)
    await _require_known(session, organization_id, body.therapist_id, body.room_id)
    values = body.model_dump(exclude={"voucher_type_ids"})
    therapy_class = TherapyClass(organization_id=organization_id, is_active=True, **values)
    session.add(therapy_class)
    await session.flush()
    type_ids = await _limit_to_types(session, therapy_class, body.voucher_type_ids)
    record(session, "CREATE", therapy_class, voucher_type_ids=type_ids)
    await session.flush()
    return read_limited(ClassRead, therapy_class, {therapy_class.id: type_ids})


async def update_class(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    class_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> ClassRead:
    """Change a class; its sessions stay as they are.

    Raises OrganizationNotFound, Forbidden, ClassNotFound, StaleVersion, ClientNotFound,
    ResourceNotFound, and Invalid.
    """
    access.require_booking_manager(actor, organization_id)
    therapy_class = await queries.lock_class(session, organization_id, class_id)
    precondition.check(therapy_class.version)
    therapist_id, room_id = changes.get("therapist_id"), changes.get("room_id")
    await _require_known(session, organization_id, therapist_id, room_id)
    details = {}
    if (type_ids := changes.pop("voucher_type_ids", None)) is not None:
        await queries.delete_types_of_class(session, therapy_class)
        details["voucher_type_ids"] = await _limit_to_types(session, therapy_class, type_ids)
    for name, value in changes.items():
        setattr(therapy_class, name, value)
    if details or session.is_modified(therapy_class):
        # The types are a part of the class, which therefore gets a new version.
        therapy_class.updated_at = now()
        record(session, "UPDATE", therapy_class, **details)
        await session.flush()
    return await _read_one(session, therapy_class)


async def _require_known(
    session: AsyncSession, organization_id: int, therapist_id: int | None, room_id: int | None
) -> None:
    """Raise ClientNotFound, ResourceNotFound or Invalid for a therapist or room that is none."""
    await resources_wanted(session, organization_id, therapist_id, ())
    if room_id is not None:
        room = await queries.get_resource(session, organization_id, room_id)
        if room.kind != ResourceKind.ROOM:
            raise Invalid("room_id", "must be the id of a room")


async def _limit_to_types(
    session: AsyncSession, therapy_class: TherapyClass, voucher_type_ids: Sequence[int]
) -> list[int]:
    """Limit a class to voucher types of its organization. Raises Invalid for others."""
    type_ids = await require_voucher_types(session, therapy_class.organization_id, voucher_type_ids)
    session.add_all(
        ClassVoucherType(
            organization_id=therapy_class.organization_id,
            therapy_class_id=therapy_class.id,
            voucher_type_id=type_id,
        )
        for type_id in type_ids
    )
    return type_ids


async def _read_one(session: AsyncSession, therapy_class: TherapyClass) -> ClassRead:
    ids = [therapy_class.id]
    types = await queries.types_of_classes(session, therapy_class.organization_id, ids)
    return read_limited(ClassRead, therapy_class, types)
