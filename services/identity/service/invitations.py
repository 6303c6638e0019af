"""Invitations: a user is added by address alone, and sets the first password by a link."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.errors import NotInvited
from services.identity.models import LinkPurpose, User
from services.identity.schemas.sign_in import InvitationAcceptance
from services.identity.service import accounts, links, notices
from services.identity.service.resources import Resources
from shared.changes import act_as, record
from shared.db import now
from shared.tenancy import see_all_tenants
from shared.work import Work


async def send(session: AsyncSession, user: User) -> None:
    """Send a locked user, who was invited, a link to join; earlier ones become invalid."""
    token = await links.issue(session, user, LinkPurpose.INVITATION, user.email)
    await notices.send_invitation(session, user, token)


async def send_if_invited(session: AsyncSession, user: User) -> None:
    """Send a new user the link to join, unless the user has a password."""
    if user.is_invited:
        await send(session, user)


async def send_again(session: AsyncSession, user: User) -> None:
    """Send a locked user the invitation again, which was counted; raises NotInvited."""
    require_invited(user)
    user.invited_at = now()
    record(session, "INVITE", user)
    await send(session, user)


def require_invited(user: User) -> None:
    """Raise NotInvited unless the user has an invitation that was not accepted."""
    if not user.is_invited:
        raise NotInvited


async def accept(work: Work, resources: Resources, body: InvitationAcceptance) -> None:
    """Set the first password of a link's user, who can sign in from now on.

    It confirms the address. Raises LinkNotFound, LinkExpired, LinkUsed, LinkReplaced,
    LinkWithdrawn, Invalid (a weak password), PasswordQueueFull.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        user = await links.get_user_of(session, body.token, LinkPurpose.INVITATION)
        texts = await accounts.texts_of_user(session, user)
    password_hash = await resources.passwords.hash_new(
        body.password, [*texts, *([body.name] if body.name else [])]
    )
    async with work.begin() as session:
        await see_all_tenants(session)
        user, link = await links.use(session, body.token, LinkPurpose.INVITATION)
        act_as(session, user.id, user.role)
        user.accept_invitation(password_hash)
        user.confirm_address(link.email)
        user.name = body.name or user.name
        user.locale = body.locale or user.locale
        record(session, "UPDATE", user)
        await session.flush()
