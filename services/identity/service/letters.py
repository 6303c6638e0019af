"""Messages to users: in the letterhead of their organization and in their language."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.models import OrganizationCopy, User
from shared.mail.messages import Letterhead, Mail

HOME = {"home": "/"}


async def mail_to(
    session: AsyncSession,
    user: User,
    template: str,
    context: Mapping[str, Any],
    links: Mapping[str, str] = HOME,
    *,
    recipient: str | None = None,
) -> Mail:
    """Return a message to a user, to another address than the user's if one is named."""
    organization = await find_organization_of(session, user.organization_id)
    return Mail(
        template,
        recipient or user.email,
        context,
        links,
        languages=(user.locale, organization.locale if organization else None),
        letterhead=letterhead_of(organization),
        organization_id=user.organization_id,
        user_id=user.id,
    )


async def find_organization_of(
    session: AsyncSession, organization_id: int | None
) -> OrganizationCopy | None:
    """Return the copy of an organization, or None for no organization."""
    if organization_id is None:
        return None
    return await queries.find_organization_copy(session, organization_id)


def letterhead_of(organization: OrganizationCopy | None) -> Letterhead:
    """Return in whose name a message is sent. Without an organization it is sent by Carnet."""
    if organization is None:
        return Letterhead()
    return Letterhead(
        name=organization.name,
        logo_url=organization.logo_url,
        reply_to=organization.email,
        timezone=organization.timezone or "UTC",
    )
