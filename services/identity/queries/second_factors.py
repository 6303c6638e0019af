"""Selects of second factors and challenges, and set-based updates of them."""

from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import RecoveryCode, SecondFactor, SignInChallenge


async def find_factor(session: AsyncSession, user_id: int) -> SecondFactor | None:
    """Return the second factor of a user, confirmed or not, or None.

    Lock the user first, if it will be changed.
    """
    return await session.get(SecondFactor, user_id, populate_existing=True)


async def has_factor(session: AsyncSession, user_id: int) -> bool:
    """Return whether a user has a second factor that was confirmed."""
    factor = await find_factor(session, user_id)
    return factor is not None and factor.confirmed_at is not None


async def find_unused_code(
    session: AsyncSession, user_id: int, code_hash: bytes
) -> RecoveryCode | None:
    """Return a recovery code that was not used yet, or None. Lock the user first."""
    code = await session.get(RecoveryCode, (user_id, code_hash), populate_existing=True)
    return code if code is not None and code.used_at is None else None


async def count_unused_codes(session: AsyncSession, user_id: int) -> int:
    """Return how many recovery codes a user has left."""
    statement = select(func.count()).select_from(RecoveryCode)
    is_left = (RecoveryCode.user_id == user_id) & RecoveryCode.used_at.is_(None)
    return await session.scalar(statement.where(is_left)) or 0


async def delete_recovery_codes(session: AsyncSession, user_id: int) -> None:
    """Delete every recovery code of a user."""
    await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))


async def delete_factor(session: AsyncSession, user_id: int) -> None:
    """Delete the second factor of a user, the recovery codes, and the sign-ins that wait for it."""
    await delete_recovery_codes(session, user_id)
    await session.execute(delete(SignInChallenge).where(SignInChallenge.user_id == user_id))
    await session.execute(delete(SecondFactor).where(SecondFactor.user_id == user_id))


async def find_challenge(session: AsyncSession, token_hash: bytes) -> SignInChallenge | None:
    """Return a challenge with its present values, or None. Lock the user first, to use it."""
    return await session.get(SignInChallenge, token_hash, populate_existing=True)


async def delete_old_challenges(session: AsyncSession, before: datetime) -> None:
    """Delete the challenges that expired before an instant."""
    await session.execute(delete(SignInChallenge).where(SignInChallenge.expires_at < before))
