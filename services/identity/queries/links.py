"""Selects of links in messages, and set-based updates of them."""

from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import AccountLink, LinkEnd, LinkPurpose
from shared.db import now


async def find_link(session: AsyncSession, token_hash: bytes) -> AccountLink | None:
    """Return a link, not locked, or None."""
    return await session.get(AccountLink, token_hash)


async def lock_link(session: AsyncSession, token_hash: bytes) -> AccountLink | None:
    """Return a link, locked, with its present values, or None."""
    statement = select(AccountLink).where(AccountLink.token_hash == token_hash).with_for_update()
    return await session.scalar(statement.execution_options(populate_existing=True))


async def end_open_links(
    session: AsyncSession, user_id: int, reason: LinkEnd, *purposes: LinkPurpose
) -> None:
    """End a user's links of these purposes that have not ended."""
    await session.execute(
        update(AccountLink)
        .where(
            AccountLink.user_id == user_id,
            AccountLink.purpose.in_(purposes),
            AccountLink.ended_at.is_(None),
        )
        .values(ended_at=now(), end_reason=reason),
        execution_options={"synchronize_session": False},
    )


async def delete_links_of(session: AsyncSession, user_id: int) -> None:
    """Delete every link of a user: they contain the user's addresses."""
    await session.execute(delete(AccountLink).where(AccountLink.user_id == user_id))


async def delete_old_links(session: AsyncSession, before: datetime) -> None:
    """Delete the links that expired before an instant."""
    await session.execute(delete(AccountLink).where(AccountLink.expires_at < before))
