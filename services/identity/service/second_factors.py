"""A user's second factor: set up, confirmed by a code, verified, and removed."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import access, policies, queries
from services.identity.errors import (
    CodeWrong,
    OwnAccount,
    SecondFactorExists,
    SecondFactorMissing,
    SecondFactorNotSet,
)
from services.identity.models import RecoveryCode, SecondFactor, User
from services.identity.schemas.second_factors import FactorRead
from services.identity.security.second_factors import (
    FactorSecrets,
    address_for_app,
    find_step,
    new_recovery_codes,
    new_secret,
)
from services.identity.service import notices, user_changes
from services.identity.service.notices import FactorChange
from services.identity.service.resources import Resources
from services.identity.service.sessions import get_own_user, lock_own_user
from services.identity.settings import Settings
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Forbidden


class RemovedBy(StrEnum):
    """Who removed a second factor."""

    USER = "user"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class FactorSetup:
    """A secret for an authenticator app, and the address with which the app reads it."""

    secret: str
    address: str


def is_required_of(settings: Settings, user: User) -> bool:
    """Return whether a user cannot sign in without a second factor."""
    return settings.admins_need_second_factor and policies.must_have_second_factor(user.role)


async def get_own(session: AsyncSession, actor: Actor, resources: Resources) -> FactorRead:
    """Return the state of the actor's own second factor; raises Unauthenticated."""
    user = await get_own_user(session, actor)
    factor = await queries.find_factor(session, user.id)
    active_since = factor.confirmed_at if factor else None
    return FactorRead(
        is_active=active_since is not None,
        active_since=active_since,
        recovery_codes_left=await queries.count_unused_codes(session, user.id),
        is_required=is_required_of(resources.settings, user),
    )


async def set_up(session: AsyncSession, actor: Actor, resources: Resources) -> FactorSetup:
    """Create a secret for an app of the actor; it counts after `confirm`.

    Raises Unauthenticated, ReauthenticationRequired, SecondFactorExists.
    """
    actor.require_recent_sign_in()
    user = await lock_own_user(session, actor)
    return await begin_setup(session, resources.factor_secrets, user)


async def begin_setup(session: AsyncSession, secrets: FactorSecrets, user: User) -> FactorSetup:
    """Create a secret for a locked user, in place of one that was not confirmed.

    Raises SecondFactorExists.
    """
    factor = await queries.find_factor(session, user.id)
    if factor is not None and factor.confirmed_at is not None:
        raise SecondFactorExists
    secret = new_secret()
    encrypted_secret = secrets.encrypt(secret, user.id)
    if factor is None:
        session.add(SecondFactor(user_id=user.id, secret=encrypted_secret))
    else:
        factor.secret = encrypted_secret
    await session.flush()
    return FactorSetup(secret, address_for_app(secret, user.email))


async def confirm(
    session: AsyncSession, actor: Actor, resources: Resources, code: str
) -> list[str]:
    """Confirm the actor's app by a code of it; return the recovery codes.

    Raises Unauthenticated, ReauthenticationRequired, SecondFactorMissing, SecondFactorExists,
    CodeWrong.
    """
    actor.require_recent_sign_in()
    user = await lock_own_user(session, actor)
    factor = await queries.find_factor(session, user.id)
    if factor is None:
        raise SecondFactorMissing
    if factor.confirmed_at is not None:
        raise SecondFactorExists
    recovery_codes = await confirm_setup(session, resources.factor_secrets, user, factor, code)
    if recovery_codes is None:
        raise CodeWrong
    return recovery_codes


async def confirm_setup(
    session: AsyncSession, secrets: FactorSecrets, user: User, factor: SecondFactor, code: str
) -> list[str] | None:
    """Confirm the app of a locked user; return the recovery codes, or None for a wrong code."""
    if not _use_app_code(secrets, factor, code):
        return None
    factor.confirmed_at = now()
    recovery_codes = await _replace_recovery_codes(session, secrets, user)
    record(session, "ADD_SECOND_FACTOR", user)
    await session.flush()
    await notices.notify_factor_changed(session, user, FactorChange.ADDED)
    return recovery_codes


def _use_app_code(secrets: FactorSecrets, factor: SecondFactor, code: str) -> bool:
    """Return whether it is a code of the app that was not used; it cannot be used again."""
    secret = secrets.decrypt(factor.secret, factor.user_id)
    step = find_step(secret, code, now(), factor.last_step)
    if step is None:
        return False
    factor.last_step = step
    return True


async def _replace_recovery_codes(
    session: AsyncSession, secrets: FactorSecrets, user: User
) -> list[str]:
    await queries.delete_recovery_codes(session, user.id)
    recovery_codes = new_recovery_codes()
    session.add_all(
        RecoveryCode(user_id=user.id, code_hash=secrets.hash_recovery_code(code, user.id))
        for code in recovery_codes
    )
    await session.flush()
    return recovery_codes


async def use_code(session: AsyncSession, secrets: FactorSecrets, user: User, code: str) -> bool:
    """Use up a code of the app, or a recovery code, of a locked user; return whether it was right.

    The lock makes two requests with one code follow each other, at whichever instance.
    """
    factor = await queries.find_factor(session, user.id)
    if factor is None or factor.confirmed_at is None:
        return False
    if _use_app_code(secrets, factor, code):
        return True
    code_hash = secrets.hash_recovery_code(code, user.id)
    recovery_code = await queries.find_unused_code(session, user.id, code_hash)
    if recovery_code is None:
        return False
    recovery_code.used_at = now()
    await session.flush()
    codes_left = await queries.count_unused_codes(session, user.id)
    record(session, "USE_RECOVERY_CODE", user, codes_left=codes_left)
    await session.flush()
    await notices.notify_factor_changed(session, user, FactorChange.CODE_USED, codes_left)
    return True


async def renew_recovery_codes(
    session: AsyncSession, actor: Actor, resources: Resources
) -> list[str]:
    """Replace the actor's recovery codes.

    Raises Unauthenticated, ReauthenticationRequired, SecondFactorMissing.
    """
    actor.require_recent_sign_in()
    user = await lock_own_user(session, actor)
    if not await queries.has_factor(session, user.id):
        raise SecondFactorMissing
    recovery_codes = await _replace_recovery_codes(session, resources.factor_secrets, user)
    record(session, "RENEW_RECOVERY_CODES", user)
    await session.flush()
    return recovery_codes


async def remove_own(session: AsyncSession, actor: Actor) -> None:
    """Remove the actor's own second factor.

    Raises Unauthenticated, ReauthenticationRequired, SecondFactorMissing.
    """
    actor.require_recent_sign_in()
    user = await lock_own_user(session, actor)
    if not await queries.has_factor(session, user.id):
        raise SecondFactorMissing
    await _remove(session, user, RemovedBy.USER)


async def reset_of_member(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int
) -> None:
    """Remove the second factor of a user of an organization who is no owner or administrator.

    Raises OrganizationNotFound, Forbidden, UserNotFound, OwnAccount, ReauthenticationRequired,
    SecondFactorNotSet.
    """
    access.require_manager(actor, organization_id)
    await _reset(session, actor, await user_changes.lock(session, actor, user_id, organization_id))


async def reset(session: AsyncSession, actor: Actor, user_id: int) -> None:
    """Remove the second factor of any user.

    Raises Forbidden, UserNotFound, OwnAccount, ReauthenticationRequired, SecondFactorNotSet.
    """
    access.require_admin(actor)
    await _reset(session, actor, await user_changes.lock(session, actor, user_id))


async def _reset(session: AsyncSession, actor: Actor, user: User) -> None:
    if user.id == actor.user_id:
        raise OwnAccount("You cannot reset your own second factor here. Remove it instead.")
    if not policies.can_reset_second_factor(actor, user):
        raise Forbidden("Only administrators may reset the second factor of an owner.")
    actor.require_recent_sign_in()
    if not await queries.has_factor(session, user.id):
        raise SecondFactorNotSet
    await _remove(session, user, RemovedBy.STAFF)


async def _remove(session: AsyncSession, user: User, by: RemovedBy) -> None:
    await queries.delete_factor(session, user.id)
    record(session, "REMOVE_SECOND_FACTOR", user, by=by)
    await session.flush()
    change = FactorChange.REMOVED if by is RemovedBy.USER else FactorChange.RESET
    await notices.notify_factor_changed(session, user, change)
