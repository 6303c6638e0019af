"""The messages that users get about their accounts."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.models import User
from shared.db import now
from shared.mail.messages import Mail
from shared.mail.queue import queue_mail
from shared.transactions import Transactions

DIGEST_EVERY = timedelta(hours=1)
"""How often the same managers are notified of new registrations, at most."""
MOST_NAMES = 20
REGISTRATIONS_WAITING = "registrations_waiting"
_HOME = {"home": "/"}


async def notify_password_changed(
    session: AsyncSession, user: User, *, by_administrator: bool
) -> None:
    """Notify a user that the password was changed."""
    context = {
        "name": user.name,
        "changed_at": now().isoformat(),
        "by_administrator": by_administrator,
    }
    await queue_mail(session, _mail_to(user, "password_changed", context))


async def notify_approved(session: AsyncSession, user: User) -> None:
    """Notify a user that the registration was approved."""
    await queue_mail(session, _mail_to(user, "registration_approved", {"name": user.name}))


async def notify_refused(session: AsyncSession, user: User) -> None:
    """Notify a person that the registration was refused. Call it before the user is erased.

    The message belongs to no user, because the messages of an erased user are deleted.
    """
    mail = Mail(
        "registration_refused",
        user.email,
        {"name": user.name},
        organization_id=user.organization_id,
    )
    await queue_mail(session, mail)


async def notify_managers(transactions: Transactions) -> None:
    """Notify those who may approve users of registrations since the last such message.

    One message for each organization and hour; administrators get that of users without one.
    """
    async with transactions.system() as session:
        await queries.lock_registration_notices(session)
        moment = now() - DIGEST_EVERY
        for organization_id in await queries.list_organizations_with_registrations(session, moment):
            users = await queries.list_waiting_users(session, organization_id)
            for manager in await queries.list_managers(session, organization_id):
                await queue_mail(session, _digest(manager, users, organization_id))


def _digest(manager: User, users: Sequence[User], organization_id: int | None) -> Mail:
    names = [(user.name, user.created_at.date().isoformat()) for user in users[:MOST_NAMES]]
    return Mail(
        REGISTRATIONS_WAITING,
        manager.email,
        {"count": len(users), "people": names, "more": max(0, len(users) - MOST_NAMES)},
        _HOME,
        organization_id=organization_id,
        user_id=manager.id,
    )


def _mail_to(user: User, template: str, context: dict[str, object]) -> Mail:
    return Mail(
        template,
        user.email,
        context,
        _HOME,
        organization_id=user.organization_id,
        user_id=user.id,
    )
