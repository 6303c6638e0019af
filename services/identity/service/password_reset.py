"""Forgotten passwords: a link to the user's address sets a new one.

The answer to a request is the same, and takes the same time, whether there is an account or not.
"""

import time

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.models import EndReason, LinkPurpose, User
from services.identity.schemas.sign_in import LinkPassword, TypedAddress
from services.identity.service import accounts, attempt_limits, invitations, links, notices
from services.identity.service.resources import Resources
from shared.changes import act_as, record, record_fact
from shared.networks import network_of
from shared.tenancy import see_all_tenants
from shared.work import Work

RESET = "reset"
"""The reason in the event of a password that was set by a link."""


async def request_reset(work: Work, resources: Resources, body: TypedAddress) -> None:
    """Send a link for a new password, if there is an account with this address.

    Raises TooManyAttempts, which depends only on how often the address was typed.
    """
    started_at = time.monotonic()
    network = network_of(work.origin.ip_address)
    async with work.begin() as session:
        await see_all_tenants(session)
        user = await queries.find_user_by_email(session, *body.spellings)
        account = attempt_limits.account_key(user.id if user else None, body.spellings[-1])
        counters = attempt_limits.link_request_counters(account, network)
        await attempt_limits.count_attempt(session, counters)
        await send_link_once_more(session, account, user)
    await resources.link_delay.wait(started_at)


async def send_link_once_more(
    session: AsyncSession, account: str, user: User | None, *, is_registration: bool = False
) -> None:
    """Send a link, unless the account got too many; without a user it is only counted.

    `is_registration` states that somebody has registered with the address. A user who was invited
    gets the invitation again.
    """
    if not await attempt_limits.count_if_possible(session, attempt_limits.link_counters(account)):
        return
    locked_user = await queries.find_user_for_update(session, user.id) if user else None
    if locked_user is not None and locked_user.is_invited:
        await invitations.send(session, locked_user)
    elif locked_user is not None:
        await send_link(session, locked_user, is_registration=is_registration)


async def send_link(session: AsyncSession, user: User, *, is_registration: bool = False) -> None:
    """Send a locked user a link for a new password; earlier ones become invalid."""
    token = await links.issue(session, user, LinkPurpose.PASSWORD_RESET, user.email)
    record_fact(
        session,
        "REQUEST_PASSWORD_RESET",
        "user",
        entity_id=user.id,
        organization_id=user.organization_id,
        details={},
    )
    template = notices.ADDRESS_REGISTERED if is_registration else notices.PASSWORD_RESET
    await notices.send_password_reset(session, user, token, template)


async def reset_password(work: Work, resources: Resources, body: LinkPassword) -> None:
    """Set the password of a link's user and end every session of the user.

    Raises LinkNotFound, LinkExpired, LinkUsed, LinkReplaced, LinkWithdrawn, Invalid (a weak
    password), PasswordQueueFull.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        user = await links.get_user_of(session, body.token, LinkPurpose.PASSWORD_RESET)
        texts = await accounts.texts_of_user(session, user)
    password_hash = await resources.passwords.hash_new(body.password, texts)
    async with work.begin() as session:
        await see_all_tenants(session)
        user, link = await links.use(session, body.token, LinkPurpose.PASSWORD_RESET)
        act_as(session, user.id, user.role)
        user.set_password(password_hash)
        user.confirm_address(link.email)
        await queries.end_sessions(session, user.id, EndReason.PASSWORD_CHANGED)
        record(session, "CHANGE_PASSWORD", user, **user.invalidate_tokens(), reason=RESET)
        await session.flush()
        await notices.notify_password_changed(session, user, by=notices.ChangedBy.LINK)
