"""A new link in the place of one that has expired."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import AccountLink, LinkPurpose, User
from services.identity.service import (
    addresses,
    attempt_limits,
    invitations,
    links,
    password_reset,
)
from shared.tenancy import see_all_tenants
from shared.work import Work


async def renew(work: Work, token: str) -> None:
    """Send a new link to the address of an expired one, for the same purpose.

    Raises LinkNotFound, LinkUsed, LinkReplaced, LinkWithdrawn, TooManyAttempts.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        await attempt_limits.count_link(session, await links.get_user_id_of(session, token))
        user, link = await links.lock_user_of(session, token)
        links.require_not_ended(link)
        await _send(session, user, link)


async def _send(session: AsyncSession, user: User, link: AccountLink) -> None:
    if link.purpose == LinkPurpose.ADDRESS_CONFIRMATION:
        await addresses.send_confirmation(session, user, link.email)
    elif user.is_invited:
        await invitations.send(session, user)
    else:
        await password_reset.send_link(session, user)
