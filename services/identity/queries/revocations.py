"""The select of revoked access tokens."""

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import (
    OrganizationCopy,
    SignInSession,
    User,
)
from shared.db import now


async def list_revocations(
    session: AsyncSession, age: timedelta
) -> tuple[list[str], dict[int, float], dict[int, int]]:
    """Return what became void within `age`: sessions, users' tokens (with the instant from which
    on new ones count), organizations that are closed (with the version that closed them)."""
    since = now() - age
    sessions = await session.scalars(select(SignInSession.id).where(SignInSession.ended_at > since))
    users = await session.execute(
        select(User.id, User.tokens_not_before).where(User.tokens_not_before > since)
    )
    found = await session.execute(
        select(OrganizationCopy.id, OrganizationCopy.is_active_version).where(
            OrganizationCopy.is_active.is_(False), OrganizationCopy.updated_at > since
        )
    )
    closed = {copy.id: copy.is_active_version for copy in found}
    instants = {id_: round(instant.timestamp(), 3) for id_, instant in users if instant is not None}
    return [str(id_) for id_ in sessions], instants, closed
