"""A user's own account."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import PasswordQueueFull, PresentPasswordWrong
from services.identity.models import EndReason, User
from services.identity.schemas.sign_in import PasswordChange
from services.identity.service import accounts, attempt_limits, links, notices
from services.identity.service.resources import Resources
from services.identity.service.sessions import (
    account_deleted,
    get_own_user,
    lock_own_user,
    session_id_of,
)
from shared.actors import Actor
from shared.changes import record
from shared.errors import Invalid
from shared.preconditions import Precondition
from shared.reads import Document, Reader
from shared.work import Work


@dataclass(frozen=True, slots=True)
class Profile:
    """A user with the names of the permissions that the user was granted."""

    user: User
    permissions: list[str]


async def get_profile(reader: Reader, actor: Actor) -> Document:
    """Return the actor's own account as JSON; raises Unauthenticated when it was deleted."""
    document = await queries.find_profile(reader, actor.user_id)
    if document is None:
        raise account_deleted()
    return document


async def update_profile(
    session: AsyncSession, actor: Actor, changes: dict[str, Any], precondition: Precondition
) -> Profile:
    """Change the actor's own name, telephone number and language.

    Raises Unauthenticated, StaleVersion.
    """
    user = await lock_own_user(session, actor)
    precondition.check(user.version)
    for name, value in changes.items():
        setattr(user, name, value)
    if session.is_modified(user):
        record(session, "UPDATE", user)
        await session.flush()
    return await _profile_of(session, user)


async def change_password(
    work: Work, actor: Actor, resources: Resources, body: PasswordChange
) -> str:
    """Change the actor's own password and end every other session.

    Returns a new device cookie, so that this device stays known.

    Raises Unauthenticated, PresentPasswordWrong, TooManyAttempts, Invalid (a weak password, or the
    present one), PasswordQueueFull.
    """
    counters = attempt_limits.password_change_counters(actor.user_id)
    async with work.begin() as session:
        user = await get_own_user(session, actor)
        texts = await accounts.texts_of_user(session, user)
        await attempt_limits.count_attempt(session, counters)
    try:
        verdict = await resources.passwords.verify(body.current_password, user.password_hash)
        if not verdict.matches:
            raise PresentPasswordWrong
        new_hash = await resources.passwords.hash_new(
            body.new_password, texts, present=body.current_password, field="new_password"
        )
    except (PasswordQueueFull, Invalid):
        await attempt_limits.withdraw_attempt_now(work, counters)
        raise
    async with work.begin() as session:
        await attempt_limits.withdraw_attempt(session, counters)
        await _replace_password(session, actor, user.password_hash, new_hash)
    return resources.devices.make(user.id)


async def _replace_password(
    session: AsyncSession, actor: Actor, old_hash: str, new_hash: str
) -> None:
    """Store the new hash; raises PresentPasswordWrong when the password changed meanwhile."""
    user = await queries.find_user_for_update(session, actor.user_id)
    if user is None or user.password_hash != old_hash:
        raise PresentPasswordWrong
    user.set_password(new_hash)
    session_ids = await queries.end_sessions(
        session, user.id, EndReason.PASSWORD_CHANGED, except_for=session_id_of(actor)
    )
    await links.withdraw_resets(session, user)
    record(session, "CHANGE_PASSWORD", user, ended_sessions=session_ids)
    await session.flush()
    await notices.notify_password_changed(session, user, by=notices.ChangedBy.USER)


async def _profile_of(session: AsyncSession, user: User) -> Profile:
    permissions = await queries.permissions_of(session, user.id)
    return Profile(user, [permission.permission for permission in permissions])
