"""What users do with their own account."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import PresentPasswordWrong
from services.identity.models import User
from services.identity.schemas import PasswordChange, ProfileRead, UserRead
from services.identity.security.passwords import PasswordQueueFull
from services.identity.service import attempt_limits, users
from services.identity.service.resources import Resources
from services.identity.service.sessions import session_id_of
from shared.actors import Actor
from shared.changes import record
from shared.errors import Invalid, Unauthenticated
from shared.preconditions import Precondition
from shared.work import Work


async def get(session: AsyncSession, actor: Actor) -> User:
    """Return the actor's own account; raises Unauthenticated when it was deleted."""
    user = await queries.find_user(session, actor.user_id)
    if user is None:
        raise Unauthenticated("The account does not exist any more.")
    return user


async def describe(session: AsyncSession, user: User) -> ProfileRead:
    """Return a user's account with the permissions that were granted."""
    granted = await queries.permissions_of(session, user.id)
    known: dict[str, Any] = UserRead.model_validate(user).model_dump()
    return ProfileRead(**known, permissions=[permission.permission for permission in granted])


async def update(
    session: AsyncSession, actor: Actor, changes: dict[str, Any], precondition: Precondition
) -> User:
    """Change one's own name and telephone number; raises StaleVersion."""
    user = await queries.lock_user(session, actor.user_id)
    if user is None:
        raise Unauthenticated("The account does not exist any more.")
    precondition.check(user.version)
    for name, value in changes.items():
        setattr(user, name, value)
    if session.is_modified(user):
        record(session, "UPDATE", user)
        await session.flush()
    return user


async def change_password(
    work: Work, resources: Resources, actor: Actor, body: PasswordChange
) -> str:
    """Change one's own password and end every other session.

    Returns a new device cookie: the device that knows the new password stays known.

    Raises PresentPasswordWrong, TooManyAttempts, Invalid (a weak password, or the present one),
    PasswordQueueFull.
    """
    counters = attempt_limits.password_change_counters(actor.user_id)
    async with work.begin() as session:
        user = await get(session, actor)
        about = await users.about_password(session, user)
        await attempt_limits.count_attempt(session, counters)
    try:
        verdict = await resources.passwords.verify(body.current_password, user.password_hash)
        if not verdict.matches:
            raise PresentPasswordWrong
        hashed = await resources.passwords.hash_new(
            body.new_password, about, present=body.current_password, field="new_password"
        )
    except (PasswordQueueFull, Invalid):
        await attempt_limits.withdraw_attempt_now(work, counters)
        raise
    async with work.begin() as session:
        await attempt_limits.withdraw_attempt(session, counters)
        await _replace(session, actor, user.password_hash, hashed)
    return resources.devices.make(user.id)


async def _replace(session: AsyncSession, actor: Actor, old_hash: str, new_hash: str) -> None:
    user = await queries.lock_user(session, actor.user_id)
    if user is None or user.password_hash != old_hash:
        raise PresentPasswordWrong
    user.set_password(new_hash)
    ended = await queries.end_sessions(
        session, user.id, "password_changed", but=session_id_of(actor)
    )
    record(session, "CHANGE_PASSWORD", user, ended_sessions=ended)
    await session.flush()
