"""Dependants of clients: for the guardian, and for those who manage the organization's users.

Each change is made under the guardian's lock.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import access, queries
from services.identity.errors import CannotBeGuardian, TooManyDependants
from services.identity.models import CLIENT, Dependant, User
from services.identity.schemas.dependants import DependantCreate
from services.identity.service import user_changes
from services.identity.service.sessions import lock_own_user
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Invalid
from shared.preconditions import Precondition
from shared.reads import Reader

MOST_DEPENDANTS = 30
"""How many dependants one guardian may have."""


@dataclass(frozen=True, slots=True)
class MemberKey:
    """A user of an organization whose dependants are managed, and not the actor's own."""

    organization_id: int
    user_id: int


async def list_dependants(reader: Reader, actor: Actor, member: MemberKey | None) -> bytes:
    """Return the dependants of a member, or of the actor without one, as JSON, newest first.

    Raises OrganizationNotFound, Forbidden, UserNotFound.
    """
    if member is None:
        return await queries.list_dependants(reader, actor.user_id)
    access.require_manager(actor, member.organization_id)
    await queries.get_document(reader, member.user_id, member.organization_id)
    return await queries.list_dependants(reader, member.user_id)


async def _lock_guardian(session: AsyncSession, actor: Actor, member: MemberKey | None) -> User:
    """Return the member, or the actor's own user without one, locked.

    Raises Unauthenticated, OrganizationNotFound, Forbidden, UserNotFound.
    """
    if member is None:
        return await lock_own_user(session, actor)
    access.require_manager(actor, member.organization_id)
    return await user_changes.lock(session, actor, member.user_id, member.organization_id)


async def add(
    session: AsyncSession, actor: Actor, member: MemberKey | None, body: DependantCreate
) -> Dependant:
    """Add a dependant of a member, or of the actor without one.

    Raises what `_lock_guardian` raises, CannotBeGuardian, TooManyDependants, and Invalid for a date
    of birth in the future.
    """
    guardian = await _lock_guardian(session, actor, member)
    if guardian.role != CLIENT or not guardian.is_active or guardian.organization_id is None:
        raise CannotBeGuardian
    if await queries.count_dependants(session, guardian.id) >= MOST_DEPENDANTS:
        raise TooManyDependants
    _require_past(body.date_of_birth)
    dependant = Dependant(
        guardian_id=guardian.id,
        organization_id=guardian.organization_id,
        name=body.name,
        date_of_birth=body.date_of_birth,
        is_active=True,
    )
    session.add(dependant)
    record(session, "CREATE", dependant)
    await session.flush()
    return dependant


async def update(
    session: AsyncSession,
    actor: Actor,
    member: MemberKey | None,
    dependant_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> Dependant:
    """Change a dependant of a member, or of the actor without one.

    Raises what `_lock_guardian` raises, DependantNotFound, StaleVersion, and Invalid for a date of
    birth in the future.
    """
    guardian = await _lock_guardian(session, actor, member)
    dependant = await queries.lock_dependant(session, guardian.id, dependant_id)
    precondition.check(dependant.version)
    _require_past(changes.get("date_of_birth"))
    for name, value in changes.items():
        setattr(dependant, name, value)
    if session.is_modified(dependant):
        record(session, "UPDATE", dependant)
        await session.flush()
    return dependant


async def delete(
    session: AsyncSession, actor: Actor, member: MemberKey | None, dependant_id: int
) -> None:
    """Replace a dependant of a member, or of the actor without one, by a pseudonym.

    Vouchers and reservations stay. Raises what `_lock_guardian` raises, and DependantNotFound.
    """
    guardian = await _lock_guardian(session, actor, member)
    dependant = await queries.lock_dependant(session, guardian.id, dependant_id)
    dependant.pseudonymize()
    record(session, "DELETE", dependant)
    await session.flush()


def _require_past(day: date | None) -> None:
    # Somewhere on earth the next day has begun already.
    if day is not None and day > now().date() + timedelta(days=1):
        raise Invalid("date_of_birth", "must not be in the future")
