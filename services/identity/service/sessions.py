"""Sign-in sessions: opened, renewed by refresh tokens, and ended."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import InvalidRefreshToken, SessionNotFound
from services.identity.models import EndReason, RefreshToken, SignInSession, User
from services.identity.schemas.sign_in import TokensRead
from services.identity.security.tokens import (
    TOKEN_SECONDS,
    TokenSigner,
    hash_refresh_token,
    new_refresh_token,
)
from services.identity.service import admission
from services.identity.service.refresh_answers import RefreshAnswers
from services.identity.service.resources import Resources
from shared.actors import Actor
from shared.changes import act_as, record
from shared.context import Origin
from shared.db import now
from shared.errors import AppError, Unauthenticated
from shared.networks import network_of
from shared.reads import Reader
from shared.tenancy import see_all_tenants
from shared.work import Work

IDLE_LIFETIME = timedelta(days=30)
MAX_LIFETIME = timedelta(days=180)
RETENTION = timedelta(days=90)
"""How long an ended session is stored, so that its network stays known."""
REPEAT_WINDOW = timedelta(seconds=10)
"""How long an exchanged refresh token returns the same answer. Later it ends the session."""

log = structlog.get_logger(__name__)


async def open_session(
    session: AsyncSession,
    signer: TokenSigner,
    user: User,
    origin: Origin,
    *,
    amr: str | None = None,
) -> TokensRead:
    """Open a session for a locked user and record the sign-in.

    `amr` names how the user signed in, if it was not a password alone.
    """
    sign_in_session = SignInSession(
        id=uuid4(),
        user_id=user.id,
        expires_at=now() + IDLE_LIFETIME,
        ip_address=origin.ip_address,
        user_agent=origin.user_agent,
        network=network_of(origin.ip_address),
        amr=amr,
    )
    session.add(sign_in_session)
    await session.flush()
    user.last_login = now()
    record(session, "LOGIN", user, session_id=str(sign_in_session.id))
    return await _issue_tokens(session, signer, user, sign_in_session)


async def _issue_tokens(
    session: AsyncSession, signer: TokenSigner, user: User, sign_in_session: SignInSession
) -> TokensRead:
    refresh_token = new_refresh_token()
    session.add(
        RefreshToken(token_hash=hash_refresh_token(refresh_token), session_id=sign_in_session.id)
    )
    permissions = [row.permission for row in await queries.permissions_of(session, user.id)]
    return TokensRead(
        access_token=signer.access_token(user, sign_in_session, permissions),
        token_type="bearer",  # noqa: S106 - the token type of RFC 6750
        expires_in=TOKEN_SECONDS,
        refresh_token=refresh_token,
    )


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """A refresh token, and the device cookie that was sent with it."""

    refresh_token: str
    device: str | None


async def refresh(work: Work, resources: Resources, presented: PresentedToken) -> TokensRead:
    """Exchange a refresh token for new tokens.

    Within ten seconds the same token returns the same tokens again to the same device, unless one
    of them was exchanged since. A token that was exchanged earlier, or by another device, ends its
    session.

    Raises InvalidRefreshToken, AwaitingApproval, AccountDeactivated, OrganizationDeactivated.
    """
    signer = await resources.issuer.signer()
    async with work.begin() as session:
        await see_all_tenants(session)
        outcome = await _exchange(session, signer, resources.answers, presented)
    if isinstance(outcome, AppError):
        raise outcome
    return outcome


async def _exchange(
    session: AsyncSession, signer: TokenSigner, answers: RefreshAnswers, presented: PresentedToken
) -> TokensRead | AppError:
    """Exchange a refresh token, or return the refusal: its changes must be committed."""
    row = await queries.find_refresh_token(session, hash_refresh_token(presented.refresh_token))
    # The user first, as everywhere; two exchanges of one user's tokens follow each other.
    user = await queries.find_user_for_update(session, row.session.user_id) if row else None
    if row is None or user is None:
        return InvalidRefreshToken()
    sign_in_session = await queries.lock_session(session, row.session.id)
    await session.refresh(row.token)
    if not sign_in_session.is_live:
        return InvalidRefreshToken()
    repeated_answer = await _find_repeated_answer(session, answers, row.token, presented)
    if row.token.used_at is not None and repeated_answer is None:
        # Two clients have this token, and one of them has stolen it; which one cannot be known.
        await _end(session, user, sign_in_session, EndReason.REFRESH_TOKEN_REUSED)
        return InvalidRefreshToken()
    refusal = await admission.refusal_of(session, user)
    if refusal is not None:
        return refusal
    if repeated_answer is not None:
        log.info("refresh_repeated", session_id=str(sign_in_session.id), user_id=user.id)
        return repeated_answer
    row.token.used_at = sign_in_session.last_used_at = now()
    sign_in_session.expires_at = min(
        now() + IDLE_LIFETIME, sign_in_session.started_at + MAX_LIFETIME
    )
    tokens = await _issue_tokens(session, signer, user, sign_in_session)
    row.token.answer = answers.encrypt(presented.refresh_token, presented.device, tokens)
    return tokens


async def _find_repeated_answer(
    session: AsyncSession,
    answers: RefreshAnswers,
    exchanged: RefreshToken,
    presented: PresentedToken,
) -> TokensRead | None:
    """Return the tokens that a token was exchanged for within the last ten seconds, or None.

    None too for another device than the one that exchanged it, and when the new refresh token was
    exchanged already: its client did not need this answer. A thief and the owner who both get one
    answer have the same token, and the second exchange of it ends the session.
    """
    if exchanged.used_at is None or exchanged.answer is None:
        return None
    age = now() - exchanged.used_at
    if age > REPEAT_WINDOW:
        return None
    tokens = answers.decrypt(presented.refresh_token, presented.device, exchanged.answer)
    if tokens is None:
        return None
    if not await queries.is_unused(session, hash_refresh_token(tokens.refresh_token)):
        return None
    return tokens.model_copy(update={"expires_in": TOKEN_SECONDS - ceil(age.total_seconds())})


async def sign_out(work: Work, refresh_token: str) -> None:
    """End the session of a refresh token, exchanged or not; a repeated request is no error.

    Raises InvalidRefreshToken for a token that does not exist.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        row = await queries.find_refresh_token(session, hash_refresh_token(refresh_token))
        user = await queries.find_user_for_update(session, row.session.user_id) if row else None
        if row is None or user is None:
            raise InvalidRefreshToken
        act_as(session, user.id, user.role)
        await _end_if_live(session, user, row.session.id)


async def sign_out_here(work: Work, actor: Actor) -> None:
    """End the session of the actor's access token; a repeated request is no error.

    Raises Unauthenticated when the account was deleted.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        user = await lock_own_user(session, actor)
        act_as(session, user.id, user.role)
        session_id = session_id_of(actor) if actor.session_id else None
        sign_in_session = await queries.find_session(session, session_id) if session_id else None
        if sign_in_session is not None and sign_in_session.user_id == user.id:
            await _end_if_live(session, user, sign_in_session.id)


async def _end_if_live(session: AsyncSession, user: User, session_id: UUID) -> None:
    sign_in_session = await queries.lock_session(session, session_id)
    if sign_in_session.is_live:
        await _end(session, user, sign_in_session, EndReason.SIGNED_OUT)


async def _end(
    session: AsyncSession, user: User, sign_in_session: SignInSession, reason: EndReason
) -> None:
    sign_in_session.ended_at = now()
    sign_in_session.end_reason = reason
    record(session, "LOGOUT", user, ended_sessions=[str(sign_in_session.id)], reason=reason)
    await session.flush()


def session_id_of(actor: Actor) -> UUID | None:
    """Return the session that an actor's access token belongs to, or None."""
    try:
        return UUID(actor.session_id or "")
    except ValueError:
        return None


async def list_own(reader: Reader, actor: Actor) -> bytes:
    """Return the actor's live sessions as JSON, the one used last first."""
    return await queries.list_live_sessions(reader, actor.user_id, session_id_of(actor))


async def end_own(session: AsyncSession, actor: Actor, session_id: UUID) -> None:
    """End one of the actor's sessions; raises SessionNotFound, Unauthenticated."""
    user = await lock_own_user(session, actor)
    sign_in_session = await queries.find_session(session, session_id)
    if sign_in_session is None or sign_in_session.user_id != user.id or not sign_in_session.is_live:
        raise SessionNotFound
    await _end_if_live(session, user, session_id)


async def end_all_own(session: AsyncSession, actor: Actor) -> int:
    """End every session of the actor; return how many there were. Raises Unauthenticated."""
    user = await lock_own_user(session, actor)
    reason = EndReason.SIGNED_OUT_EVERYWHERE
    session_ids = await queries.end_sessions(session, user.id, reason)
    record(session, "LOGOUT", user, **user.invalidate_tokens(), reason=reason)
    await session.flush()
    return len(session_ids)


async def get_own_user(session: AsyncSession, actor: Actor) -> User:
    """Return the actor's own user; raises Unauthenticated when the account was deleted."""
    user = await queries.find_user(session, actor.user_id)
    if user is None:
        raise account_deleted()
    return user


async def lock_own_user(session: AsyncSession, actor: Actor) -> User:
    """Return the actor's own user, locked; raises Unauthenticated when the account was deleted."""
    user = await queries.find_user_for_update(session, actor.user_id)
    if user is None:
        raise account_deleted()
    return user


def account_deleted() -> Unauthenticated:
    """Return the error for a token of an account that was deleted."""
    return Unauthenticated("The account does not exist any more.")
