"""Selects of the keys that sign access tokens."""

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import SigningKey
from shared.db import now


async def list_signing_keys(session: AsyncSession) -> Sequence[SigningKey]:
    """Return every key, the newest first."""
    statement = select(SigningKey).order_by(SigningKey.signs_from.desc())
    return (await session.scalars(statement)).all()


async def list_published_keys(session: AsyncSession) -> Sequence[SigningKey]:
    """Return the keys that verifiers need now, the newest first."""
    until = SigningKey.published_until
    statement = select(SigningKey).where(or_(until.is_(None), until > now()))
    return (await session.scalars(statement.order_by(SigningKey.signs_from.desc()))).all()


async def lock_signing_keys(session: AsyncSession) -> None:
    """Let no other transaction add a key until the end of this one."""
    name = func.concat(func.current_schema(), ".signing_keys")
    lock = func.pg_advisory_xact_lock(func.hashtextextended(name, 0))
    await session.execute(select(lock))
