"""Selects of access tokens that are void before they expire."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import OrganizationCopy, SignInSession, User


async def list_sessions_ended_since(session: AsyncSession, since: datetime) -> Sequence[UUID]:
    """Return the ids of the sessions that ended after an instant."""
    statement = select(SignInSession.id).where(SignInSession.ended_at > since)
    return (await session.scalars(statement)).all()


async def token_cutoffs_since(session: AsyncSession, since: datetime) -> Mapping[int, datetime]:
    """Return the users whose tokens were invalidated after an instant, with the moment of it."""
    statement = select(User.id, User.tokens_not_before).where(User.tokens_not_before > since)
    rows = await session.execute(statement)
    return {user_id: moment for user_id, moment in rows if moment is not None}


async def organizations_closed_since(session: AsyncSession, since: datetime) -> Mapping[int, int]:
    """Return the organizations deactivated after an instant, with the version that did it."""
    statement = select(OrganizationCopy.id, OrganizationCopy.is_active_version).where(
        OrganizationCopy.is_active.is_(False), OrganizationCopy.updated_at > since
    )
    return {copy.id: copy.is_active_version for copy in await session.execute(statement)}
