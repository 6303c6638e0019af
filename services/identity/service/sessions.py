"""Sign-in sessions: opened, kept by exchanging refresh tokens, ended."""

from collections.abc import Sequence
from datetime import timedelta
from math import ceil
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import InvalidRefreshToken, SessionNotFound
from services.identity.models import RefreshToken, SignInSession, User
from services.identity.schemas import TokensRead
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
from shared.tenancy import EVERYTHING
from shared.work import Work

IDLE_LIFETIME = timedelta(days=30)
MAX_LIFETIME = timedelta(days=180)
RETENTION = timedelta(days=90)
"""How long an ended session tells that its address is the user's."""
REPEAT_WINDOW = timedelta(seconds=10)
"""How long the same refresh token gives the same answer again; after that it ends the session."""

log = structlog.get_logger(__name__)


async def open_session(
    session: AsyncSession, signer: TokenSigner, user: User, origin: Origin
) -> TokensRead:
    """Open a session for a locked user and record the sign-in."""
    opened = SignInSession(
        id=uuid4(),
        user_id=user.id,
        expires_at=now() + IDLE_LIFETIME,
        ip_address=origin.ip_address,
        user_agent=origin.user_agent,
        network=network_of(origin.ip_address),
    )
    session.add(opened)
    await session.flush()
    user.last_login = now()
    record(session, "LOGIN", user, session_id=str(opened.id))
    return await _issue(session, signer, user, opened)


async def _issue(
    session: AsyncSession, signer: TokenSigner, user: User, opened: SignInSession
) -> TokensRead:
    refresh_token = new_refresh_token()
    session.add(RefreshToken(token_hash=hash_refresh_token(refresh_token), session_id=opened.id))
    permissions = [granted.permission for granted in await queries.permissions_of(session, user.id)]
    return TokensRead(
        access_token=signer.access_token(user, opened.id, permissions),
        token_type="bearer",  # noqa: S106 - RFC 6750's word
        expires_in=TOKEN_SECONDS,
        refresh_token=refresh_token,
    )


async def refresh(work: Work, resources: Resources, refresh_token: str) -> TokensRead:
    """Exchange a refresh token for new tokens.

    Within ten seconds the same token gives the same tokens again, if none of them was exchanged
    since; one that was used before that ends its session.

    Raises InvalidRefreshToken, AccountDeactivated, OrganizationDeactivated.
    """
    signer = await resources.issuer.signer()
    async with work.begin(EVERYTHING) as session:
        outcome = await _exchange(session, signer, resources.answers, refresh_token)
    if isinstance(outcome, AppError):
        raise outcome
    return outcome


async def _exchange(
    session: AsyncSession, signer: TokenSigner, answers: RefreshAnswers, refresh_token: str
) -> TokensRead | AppError:
    """Do it, or return the refusal: what a refusal changes must be committed."""
    found = await queries.find_refresh_token(session, hash_refresh_token(refresh_token))
    # The user first, as everywhere; two exchanges of one user's tokens follow each other.
    user = await queries.lock_user(session, found[0].user_id) if found else None
    if found is None or user is None:
        return InvalidRefreshToken()
    opened = await queries.lock_session(session, found[0].id)
    await session.refresh(found[1])
    if not opened.is_live:
        return InvalidRefreshToken()
    repeated = await _answer_again(session, answers, found[1], refresh_token)
    if found[1].used_at is not None and repeated is None:
        # Two hold this token, and one of them has stolen it; which one cannot be known.
        await _end(session, user, opened, "refresh_token_reused")
        return InvalidRefreshToken()
    refusal = await admission.refusal_of(session, user)
    if refusal is not None:
        return refusal
    if repeated is not None:
        log.info("refresh_repeated", session_id=str(opened.id), user_id=user.id)
        return repeated
    found[1].used_at = opened.last_used_at = now()
    opened.expires_at = min(now() + IDLE_LIFETIME, opened.started_at + MAX_LIFETIME)
    issued = await _issue(session, signer, user, opened)
    found[1].answer = answers.encrypt(refresh_token, issued)
    return issued


async def _answer_again(
    session: AsyncSession, answers: RefreshAnswers, exchanged: RefreshToken, refresh_token: str
) -> TokensRead | None:
    """Return what a token was exchanged for a moment ago, or None.

    None too when the new refresh token was exchanged already: whoever did so did not wait for
    this answer. A thief and the owner who both get one answer hold one token, and the exchange of
    it that comes second ends the session.
    """
    if exchanged.used_at is None or exchanged.answer is None:
        return None
    age = now() - exchanged.used_at
    tokens = answers.decrypt(refresh_token, exchanged.answer) if age <= REPEAT_WINDOW else None
    if tokens is None:
        return None
    successor = await session.get(RefreshToken, hash_refresh_token(tokens.refresh_token))
    if successor is None or successor.used_at is not None:
        return None
    return tokens.model_copy(update={"expires_in": TOKEN_SECONDS - ceil(age.total_seconds())})


async def _end(session: AsyncSession, user: User, opened: SignInSession, reason: str) -> None:
    opened.ended_at = now()
    opened.end_reason = reason
    record(session, "LOGOUT", user, ended_sessions=[str(opened.id)], reason=reason)
    await session.flush()


async def sign_out(work: Work, refresh_token: str) -> None:
    """End the session of a refresh token, used or not; again is no error.

    Raises InvalidRefreshToken for a token that never was.
    """
    async with work.begin(EVERYTHING) as session:
        found = await queries.find_refresh_token(session, hash_refresh_token(refresh_token))
        user = await queries.lock_user(session, found[0].user_id) if found else None
        if found is None or user is None:
            raise InvalidRefreshToken
        act_as(session, user.id, user.role)
        await _end_if_live(session, user, found[0].id)


async def sign_out_here(work: Work, actor: Actor) -> None:
    """End the session of an access token; again is no error."""
    async with work.begin(EVERYTHING) as session:
        user = await _oneself(session, actor)
        act_as(session, user.id, user.role)
        opened = (
            await session.get(SignInSession, session_id_of(actor)) if actor.session_id else None
        )
        if opened is not None and opened.user_id == user.id:
            await _end_if_live(session, user, opened.id)


async def _end_if_live(session: AsyncSession, user: User, session_id: UUID) -> None:
    opened = await queries.lock_session(session, session_id)
    if opened.is_live:
        await _end(session, user, opened, "signed_out")


def session_id_of(actor: Actor) -> UUID | None:
    """Return the session that an actor's access token belongs to."""
    try:
        return UUID(actor.session_id or "")
    except ValueError:
        return None


async def list_own(session: AsyncSession, actor: Actor) -> Sequence[SignInSession]:
    """Return the actor's live sessions, the one used last first."""
    return await queries.list_live_sessions(session, actor.user_id)


async def end_own(session: AsyncSession, actor: Actor, session_id: UUID) -> None:
    """End one of the actor's sessions; raises SessionNotFound."""
    user = await _oneself(session, actor)
    found = await session.get(SignInSession, session_id)
    if found is None or found.user_id != user.id or not found.is_live:
        raise SessionNotFound
    await _end_if_live(session, user, session_id)


async def end_all_own(session: AsyncSession, actor: Actor) -> int:
    """Sign the actor out everywhere; returns how many sessions there were."""
    user = await _oneself(session, actor)
    ended = await queries.end_sessions(session, user.id, "signed_out_everywhere")
    record(session, "LOGOUT", user, **user.invalidate_tokens(), reason="signed_out_everywhere")
    await session.flush()
    return len(ended)


async def _oneself(session: AsyncSession, actor: Actor) -> User:
    user = await queries.lock_user(session, actor.user_id)
    if user is None:
        raise Unauthenticated("The account does not exist any more.")
    return user
