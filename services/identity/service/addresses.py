"""E-mail addresses: confirmed by a link, and changed when the new one is confirmed."""

import time

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import PasswordQueueFull, PresentPasswordWrong
from services.identity.models import LinkEnd, LinkPurpose, User
from services.identity.schemas.sign_in import AddressChange
from services.identity.service import accounts, attempt_limits, links, notices
from services.identity.service.resources import Resources
from services.identity.service.sessions import get_own_user, lock_own_user
from shared.actors import Actor
from shared.changes import act_as, record
from shared.tenancy import see_all_tenants
from shared.text import fold
from shared.work import Work


async def send_confirmation(session: AsyncSession, user: User, email: str | None = None) -> None:
    """Send a locked user a link that confirms the address, or a new one if it is named."""
    address = email or user.email
    token = await links.issue(session, user, LinkPurpose.ADDRESS_CONFIRMATION, address)
    is_new = fold(address) != fold(user.email)
    await notices.send_confirmation(session, user, address, token, is_new=is_new)


async def confirm(work: Work, token: str) -> None:
    """Confirm the address to which a link was sent. A new address replaces the present one.

    Raises LinkNotFound, LinkExpired, LinkUsed, LinkReplaced, LinkWithdrawn, and EmailTaken when
    another user has taken the new address meanwhile.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        user, link = await links.use(session, token, LinkPurpose.ADDRESS_CONFIRMATION)
        act_as(session, user.id, user.role)
        former_address = user.email
        if fold(link.email) != fold(user.email):
            user.set_email(link.email)
        user.confirm_address(link.email)
        if session.is_modified(user):
            record(session, "UPDATE", user)
        async with accounts.unique_address():
            await session.flush()
        if fold(former_address) != fold(user.email):
            await _notify_former(session, user, former_address, by_staff=False)


async def request_change(
    work: Work, actor: Actor, resources: Resources, body: AddressChange
) -> None:
    """Send a link to the new address of the actor, which replaces the present one when it is used.

    If another user has the address, nothing is sent; neither the answer nor its time reveals it.

    Raises Unauthenticated, PresentPasswordWrong, TooManyAttempts, PasswordQueueFull.
    """
    started_at = time.monotonic()
    counters = attempt_limits.password_change_counters(actor.user_id)
    async with work.begin() as session:
        user = await get_own_user(session, actor)
        await attempt_limits.count_attempt(session, counters)
    try:
        verdict = await resources.passwords.verify(body.current_password, user.password_hash)
    except PasswordQueueFull:
        await attempt_limits.withdraw_attempt_now(work, counters)
        raise
    if not verdict.matches:
        raise PresentPasswordWrong
    async with work.begin() as session:
        await see_all_tenants(session)
        await attempt_limits.withdraw_attempt(session, counters)
        await _send_to_new_address(session, actor, body.email)
    await resources.link_delay.wait(started_at)


async def _send_to_new_address(session: AsyncSession, actor: Actor, email: str) -> None:
    await attempt_limits.count_link(session, actor.user_id)
    user = await lock_own_user(session, actor)
    other = await queries.find_user_by_email(session, email)
    if other is None or other.id == user.id:
        await send_confirmation(session, user, email)


async def announce_change_by_staff(session: AsyncSession, user: User, former_address: str) -> None:
    """Notify both addresses of a locked user whose address staff have changed."""
    await _notify_former(session, user, former_address, by_staff=True)
    await send_confirmation(session, user)


async def _notify_former(
    session: AsyncSession, user: User, former_address: str, *, by_staff: bool
) -> None:
    """Notify the former address, and end the links that were sent to it."""
    await queries.end_open_links(
        session,
        user.id,
        LinkEnd.WITHDRAWN,
        LinkPurpose.PASSWORD_RESET,
        LinkPurpose.ADDRESS_CONFIRMATION,
    )
    await notices.notify_address_changed(session, user, former_address, by_staff=by_staff)
