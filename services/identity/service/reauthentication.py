"""A signed-in user proves again who they are, for actions that need a recent sign-in."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import CodeWrong, PasswordQueueFull, PresentPasswordWrong
from services.identity.models import SignInSession, User
from services.identity.schemas.second_factors import Reauthentication
from services.identity.service import attempt_limits, second_factors
from services.identity.service.resources import Resources
from services.identity.service.sessions import get_own_user, lock_own_user, session_id_of
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Unauthenticated
from shared.work import Work


async def reauthenticate(
    work: Work, actor: Actor, resources: Resources, body: Reauthentication
) -> str:
    """Renew `auth_time` of the actor's session; return an access token that has it.

    Raises Unauthenticated, PresentPasswordWrong, CodeWrong, TooManyAttempts, PasswordQueueFull.
    """
    signer = await resources.issuer.signer()
    if body.code is not None:
        counters = attempt_limits.second_factor_counters(actor.user_id)
    else:
        counters = attempt_limits.password_change_counters(actor.user_id)
    async with work.begin() as session:
        user = await get_own_user(session, actor)
        await attempt_limits.count_attempt(session, counters)
    if body.password is not None:
        try:
            verdict = await resources.passwords.verify(body.password, _hash_of(user))
        except PasswordQueueFull:
            await attempt_limits.withdraw_attempt_now(work, counters)
            raise
        if not verdict.matches:
            raise PresentPasswordWrong
    async with work.begin() as session:
        locked_user = await lock_own_user(session, actor)
        if body.password is not None and locked_user.password_hash != user.password_hash:
            raise PresentPasswordWrong
        sign_in_session = await _lock_own_session(session, actor)
        if body.code is not None:
            await _require_code(session, resources, locked_user, body.code)
        await attempt_limits.withdraw_attempt(session, counters)
        sign_in_session.authenticated_at = now()
        record(session, "REAUTHENTICATE", locked_user, session_id=str(sign_in_session.id))
        await session.flush()
        permissions = [
            row.permission for row in await queries.permissions_of(session, locked_user.id)
        ]
        return signer.access_token(locked_user, sign_in_session, permissions)


def _hash_of(user: User) -> str | None:
    return user.password_hash if user.has_password else None


async def _lock_own_session(session: AsyncSession, actor: Actor) -> SignInSession:
    """Return the session of the actor's token, locked; raises Unauthenticated if it has ended."""
    session_id = session_id_of(actor)
    sign_in_session = await queries.find_session(session, session_id) if session_id else None
    if sign_in_session is None or sign_in_session.user_id != actor.user_id:
        raise Unauthenticated("The access token belongs to no sign-in session. Sign in again.")
    sign_in_session = await queries.lock_session(session, sign_in_session.id)
    if not sign_in_session.is_live:
        raise Unauthenticated("The sign-in session has ended. Sign in again.")
    return sign_in_session


async def _require_code(session: AsyncSession, resources: Resources, user: User, code: str) -> None:
    """Use up a code of the user's second factor; raises CodeWrong."""
    if not await second_factors.use_code(session, resources.factor_secrets, user, code):
        raise CodeWrong
