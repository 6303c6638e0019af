"""The messages that users get about their accounts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.models import OrganizationCopy, User
from services.identity.service.letters import (
    HOME,
    find_organization_of,
    letterhead_of,
    mail_to,
)
from shared.db import now
from shared.mail.messages import Mail
from shared.mail.queue import queue_mail
from shared.transactions import Transactions

DIGEST_EVERY = timedelta(hours=1)
"""How often the same managers are notified of new registrations, at most."""
MOST_NAMES = 20
PASSWORD_PAGE = "/account/password"  # noqa: S105 - no password
"""The page of the gateway that sets a password. Tokens are in the fragment of its address, which
browsers send to no server."""
ADDRESS_PAGE = "/account/address"
INVITATION_PAGE = "/account/invitation"
PASSWORD_RESET = "password_reset"  # noqa: S105 - no password
ADDRESS_REGISTERED = "address_registered"
REGISTRATIONS_WAITING = "registrations_waiting"


class ChangedBy(StrEnum):
    """Who changed a password."""

    USER = "user"
    ADMINISTRATOR = "administrator"
    LINK = "link"


class FactorChange(StrEnum):
    """What happened to a second factor. A reset is a removal by somebody else."""

    ADDED = "added"
    REMOVED = "removed"
    RESET = "reset"
    CODE_USED = "code_used"


async def notify_factor_changed(
    session: AsyncSession, user: User, change: FactorChange, codes_left: int | None = None
) -> None:
    """Notify a user of a change of the second factor, or of a recovery code that was used."""
    context = {
        "name": user.name,
        "changed_at": now().isoformat(),
        "change": change,
        "codes_left": codes_left,
    }
    await queue_mail(session, await mail_to(session, user, "second_factor_changed", context))


async def notify_password_changed(session: AsyncSession, user: User, *, by: ChangedBy) -> None:
    """Notify a user that the password was changed."""
    context = {"name": user.name, "changed_at": now().isoformat(), "by": by}
    await queue_mail(session, await mail_to(session, user, "password_changed", context))


async def send_password_reset(session: AsyncSession, user: User, token: str, template: str) -> None:
    """Send a user the link for a new password."""
    context = {"name": user.name}
    page = {"page": f"{PASSWORD_PAGE}#token={token}"}
    await queue_mail(session, await mail_to(session, user, template, context, page))


async def send_invitation(session: AsyncSession, user: User, token: str) -> None:
    """Send a user the link to join."""
    organization = await find_organization_of(session, user.organization_id)
    context = {"organization": organization.name if organization else None}
    page = {"page": f"{INVITATION_PAGE}#token={token}"}
    await queue_mail(session, await mail_to(session, user, "invitation", context, page))


async def send_confirmation(
    session: AsyncSession, user: User, address: str, token: str, *, is_new: bool
) -> None:
    """Send the link that confirms an address to this address."""
    context = {"name": user.name, "is_new": is_new}
    page = {"page": f"{ADDRESS_PAGE}#token={token}"}
    mail = await mail_to(session, user, "address_confirmation", context, page, recipient=address)
    await queue_mail(session, mail)


async def notify_address_changed(
    session: AsyncSession, user: User, former_address: str, *, by_staff: bool
) -> None:
    """Notify the former address of a user that the account has another one."""
    context = {"name": user.name, "changed_at": now().isoformat(), "by_staff": by_staff}
    mail = await mail_to(session, user, "address_changed", context, recipient=former_address)
    await queue_mail(session, mail)


async def notify_approved(session: AsyncSession, user: User) -> None:
    """Notify a user that the registration was approved."""
    context = {"name": user.name, "awaits_confirmation": user.awaits_confirmation}
    await queue_mail(session, await mail_to(session, user, "registration_approved", context))


async def notify_refused(session: AsyncSession, user: User) -> None:
    """Notify a person that the registration was refused. Call it before the user is erased.

    The message belongs to no user, because the messages of an erased user are deleted.
    """
    mail = await mail_to(session, user, "registration_refused", {"name": user.name})
    await queue_mail(session, replace(mail, user_id=None))


async def notify_managers(transactions: Transactions) -> None:
    """Notify those who may approve users of registrations since the last such message.

    One message for each organization and hour; administrators get that of users without one.
    """
    async with transactions.system() as session:
        await queries.lock_registration_notices(session)
        moment = now() - DIGEST_EVERY
        for organization_id in await queries.list_organizations_with_registrations(session, moment):
            users = await queries.list_waiting_users(session, organization_id)
            organization = await find_organization_of(session, organization_id)
            for manager in await queries.list_managers(session, organization_id):
                await queue_mail(session, _digest(manager, users, organization))


def _digest(manager: User, users: Sequence[User], organization: OrganizationCopy | None) -> Mail:
    names = [(user.name, user.created_at.date().isoformat()) for user in users[:MOST_NAMES]]
    return Mail(
        REGISTRATIONS_WAITING,
        manager.email,
        {"count": len(users), "people": names, "more": max(0, len(users) - MOST_NAMES)},
        HOME,
        languages=(manager.locale, organization.locale if organization else None),
        letterhead=letterhead_of(organization),
        organization_id=users[0].organization_id,
        user_id=manager.id,
    )
