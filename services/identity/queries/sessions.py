"""Selects of sign-in sessions and refresh tokens, and set-based updates of them."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import EndReason, RefreshToken, SignInSession
from services.identity.schemas.sign_in import SessionRead
from shared.db import now
from shared.reads import JsonQuery, Reader

_NO_SESSION = UUID(int=0)
"""The id of no sign-in session: those that are opened have random ids."""

_LIVE = JsonQuery(
    SessionRead,
    select()
    .select_from(SignInSession)
    .where(
        SignInSession.user_id == bindparam("user_id"),
        SignInSession.ended_at.is_(None),
        SignInSession.expires_at > bindparam("instant"),
    ),
    {
        **SignInSession.__table__.columns,
        "is_current": SignInSession.id == bindparam("current_id"),
    },
    order=(SignInSession.last_used_at,),
)


class SessionToken(NamedTuple):
    """A refresh token and the session it belongs to."""

    session: SignInSession
    token: RefreshToken


async def has_signed_in_from(
    session: AsyncSession, user_id: int, network: str, since: datetime | None
) -> bool:
    """Return whether a stored session of the user was opened from this network.

    Sessions that were not used since the last password was set do not count.
    """
    statement = select(SignInSession.id).where(
        SignInSession.user_id == user_id, SignInSession.network == network
    )
    if since is not None:
        statement = statement.where(SignInSession.last_used_at >= since)
    return await session.scalar(statement.limit(1)) is not None


async def list_live_sessions(reader: Reader, user_id: int, current_id: UUID | None) -> bytes:
    """Return a user's live sessions as JSON, the one used last first.

    The one with `current_id`, if there is one, is marked as current.
    """
    return await _LIVE.list(
        reader, user_id=user_id, instant=now(), current_id=current_id or _NO_SESSION
    )


async def find_session(session: AsyncSession, session_id: UUID) -> SignInSession | None:
    """Return a session, not locked, or None."""
    return await session.get(SignInSession, session_id)


async def lock_session(session: AsyncSession, session_id: UUID) -> SignInSession:
    """Return a session that exists, locked, with its present values."""
    return await session.get_one(
        SignInSession, session_id, with_for_update=True, populate_existing=True
    )


async def find_refresh_token(session: AsyncSession, token_hash: bytes) -> SessionToken | None:
    """Return a refresh token with its session, not locked, or None."""
    statement = (
        select(SignInSession, RefreshToken)
        .join(RefreshToken, RefreshToken.session_id == SignInSession.id)
        .where(RefreshToken.token_hash == token_hash)
    )
    row = (await session.execute(statement)).one_or_none()
    return SessionToken(row[0], row[1]) if row else None


async def is_unused(session: AsyncSession, token_hash: bytes) -> bool:
    """Return whether a refresh token exists and has not been exchanged yet."""
    token = await session.get(RefreshToken, token_hash)
    return token is not None and token.used_at is None


async def end_sessions(
    session: AsyncSession, user_id: int, reason: EndReason, *, except_for: UUID | None = None
) -> list[str]:
    """End a user's live sessions, except for one if it is named; return the ids of the ended."""
    statement = update(SignInSession).where(
        SignInSession.user_id == user_id, SignInSession.ended_at.is_(None)
    )
    if except_for is not None:
        statement = statement.where(SignInSession.id != except_for)
    session_ids = await session.scalars(
        statement.values(ended_at=now(), end_reason=reason).returning(SignInSession.id),
        execution_options={"synchronize_session": False},
    )
    return [str(session_id) for session_id in session_ids]


async def erase_refresh_answers(session: AsyncSession, before: datetime) -> None:
    """Erase the answers to refresh tokens that were exchanged before an instant."""
    is_old = (RefreshToken.used_at < before) & RefreshToken.answer.is_not(None)
    await session.execute(update(RefreshToken).where(is_old).values(answer=None))


async def delete_expired_sessions(session: AsyncSession, before: datetime) -> None:
    """Delete the sessions that ended or expired before an instant, with their tokens."""
    is_old = (SignInSession.ended_at < before) | (SignInSession.expires_at < before)
    await session.execute(delete(SignInSession).where(is_old))
