"""Selects of sign-in sessions and refresh tokens, and set-based updates of them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import (
    RefreshToken,
    SignInSession,
)
from shared.db import now


async def has_signed_in_from(
    session: AsyncSession, user_id: int, network: str, since: datetime | None
) -> bool:
    """Say whether the user has signed in from there before (as far as we keep sessions).

    Sessions that were not used since the last password was set do not count.
    """
    statement = select(SignInSession.id).where(
        SignInSession.user_id == user_id, SignInSession.network == network
    )
    if since is not None:
        statement = statement.where(SignInSession.last_used_at >= since)
    return await session.scalar(statement.limit(1)) is not None


async def list_live_sessions(session: AsyncSession, user_id: int) -> Sequence[SignInSession]:
    """Return a user's live sessions, the one used last first."""
    statement = select(SignInSession).where(
        SignInSession.user_id == user_id,
        SignInSession.ended_at.is_(None),
        SignInSession.expires_at > now(),
    )
    return (await session.scalars(statement.order_by(SignInSession.last_used_at.desc()))).all()


async def find_refresh_token(
    session: AsyncSession, token_hash: bytes
) -> tuple[SignInSession, RefreshToken] | None:
    """Return a refresh token with its session, not locked, or None."""
    statement = (
        select(SignInSession, RefreshToken)
        .join(RefreshToken, RefreshToken.session_id == SignInSession.id)
        .where(RefreshToken.token_hash == token_hash)
    )
    row = (await session.execute(statement)).one_or_none()
    return (row[0], row[1]) if row else None


async def lock_session(session: AsyncSession, session_id: UUID) -> SignInSession:
    """Return a session that exists, locked, as it is now."""
    return await session.get_one(
        SignInSession, session_id, with_for_update=True, populate_existing=True
    )


async def end_sessions(
    session: AsyncSession, user_id: int, reason: str, *, but: UUID | None = None
) -> list[str]:
    """End a user's live sessions, all or all but one; return the ended ones' ids."""
    statement = update(SignInSession).where(
        SignInSession.user_id == user_id, SignInSession.ended_at.is_(None)
    )
    if but is not None:
        statement = statement.where(SignInSession.id != but)
    ended = await session.scalars(
        statement.values(ended_at=now(), end_reason=reason).returning(SignInSession.id),
        execution_options={"synchronize_session": False},
    )
    return [str(id_) for id_ in ended]


async def erase_refresh_answers(session: AsyncSession, before: datetime) -> None:
    """Erase what refresh tokens were exchanged for that were used before an instant."""
    old = (RefreshToken.used_at < before) & RefreshToken.answer.is_not(None)
    await session.execute(update(RefreshToken).where(old).values(answer=None))


async def delete_expired_sessions(session: AsyncSession, before: datetime) -> None:
    """Drop the sessions that ended or ran out before an instant, with their tokens."""
    old = (SignInSession.ended_at < before) | (SignInSession.expires_at < before)
    await session.execute(delete(SignInSession).where(old))
