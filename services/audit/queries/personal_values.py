"""Queries of personal values and of the users whose values were erased."""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit.models import Erasure, PersonalValue


async def personal_values_of(
    session: AsyncSession, commitments: Iterable[bytes]
) -> dict[bytes, Any]:
    """Return the personal values that are not erased, by their commitment."""
    statement = select(PersonalValue.commitment, PersonalValue.value).where(
        PersonalValue.commitment.in_(list(commitments)), PersonalValue.value.is_not(None)
    )
    return {row.commitment: json.loads(row.value) for row in await session.execute(statement)}


async def committed_values(
    session: AsyncSession, commitments: Iterable[bytes]
) -> dict[bytes, PersonalValue]:
    """Return the rows of personal values, erased ones included, by their commitment."""
    statement = select(PersonalValue).where(PersonalValue.commitment.in_(list(commitments)))
    return {value.commitment: value for value in await session.scalars(statement)}


async def erased_users(session: AsyncSession, users: Iterable[int | None]) -> set[int]:
    """Return which of the users were erased."""
    ids = [user for user in users if user is not None]
    return set(await session.scalars(select(Erasure.user_id).where(Erasure.user_id.in_(ids))))
