"""Links in messages: issued to a user and used once; only the newest of a purpose is valid."""

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import (
    LinkExpired,
    LinkNotFound,
    LinkReplaced,
    LinkUsed,
    LinkWithdrawn,
)
from services.identity.models import AccountLink, LinkEnd, LinkPurpose, User
from services.identity.security.link_tokens import hash_link_token, new_link_token
from shared.db import now

RETENTION = timedelta(days=30)
"""How long an expired link is stored, so that its visitor learns that it has expired."""

_END_ERRORS = {
    LinkEnd.USED: LinkUsed,
    LinkEnd.REPLACED: LinkReplaced,
    LinkEnd.WITHDRAWN: LinkWithdrawn,
}


async def issue(session: AsyncSession, user: User, purpose: LinkPurpose, email: str) -> str:
    """Return the token of a new link for a locked user; earlier links of the purpose end."""
    await queries.end_open_links(session, user.id, LinkEnd.REPLACED, purpose)
    token = new_link_token()
    session.add(
        AccountLink(
            token_hash=hash_link_token(token),
            user_id=user.id,
            purpose=purpose,
            email=email,
            expires_at=now() + purpose.lifetime,
        )
    )
    await session.flush()
    return token


async def withdraw_resets(session: AsyncSession, user: User) -> None:
    """End the open link for a new password of a locked user who has just got one."""
    await queries.end_open_links(session, user.id, LinkEnd.WITHDRAWN, LinkPurpose.PASSWORD_RESET)


async def get_user_of(session: AsyncSession, token: str, purpose: LinkPurpose) -> User:
    """Return the user of a valid link, not locked.

    Raises LinkNotFound, LinkExpired, LinkUsed, LinkReplaced, LinkWithdrawn.
    """
    link = await queries.find_link(session, hash_link_token(token))
    user = await queries.find_user(session, link.user_id) if link else None
    if user is None:
        raise LinkNotFound
    require_valid(link, purpose)
    return user


async def get_user_id_of(session: AsyncSession, token: str) -> int:
    """Return the id of the user of a link, valid or not. Raises LinkNotFound."""
    link = await queries.find_link(session, hash_link_token(token))
    if link is None:
        raise LinkNotFound
    return link.user_id


async def use(session: AsyncSession, token: str, purpose: LinkPurpose) -> tuple[User, AccountLink]:
    """Use a link up, and return its user, locked. Of two requests at once the second is refused.

    Raises LinkNotFound, LinkExpired, LinkUsed, LinkReplaced, LinkWithdrawn.
    """
    user, link = await lock_user_of(session, token)
    require_valid(link, purpose)
    link.end(LinkEnd.USED)
    return user, link


async def lock_user_of(session: AsyncSession, token: str) -> tuple[User, AccountLink]:
    """Return the user of a link, valid or not, and the link, both locked. Raises LinkNotFound."""
    token_hash = hash_link_token(token)
    link = await queries.find_link(session, token_hash)
    # The user first, as everywhere.
    user = await queries.find_user_for_update(session, link.user_id) if link else None
    link = await queries.lock_link(session, token_hash)
    if user is None or link is None:
        raise LinkNotFound
    return user, link


def require_valid(link: AccountLink | None, purpose: LinkPurpose) -> None:
    """Raise the reason why a link cannot be used for a purpose; see `use`."""
    if link is None or link.purpose != purpose:
        raise LinkNotFound
    require_not_ended(link)
    if link.has_expired:
        raise LinkExpired


def require_not_ended(link: AccountLink) -> None:
    """Raise LinkUsed, LinkReplaced or LinkWithdrawn for a link that was ended."""
    if link.end_reason is not None:
        raise _END_ERRORS[LinkEnd(link.end_reason)]
