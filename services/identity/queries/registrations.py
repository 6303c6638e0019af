"""Selects for the messages about registrations that wait for approval."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import OutgoingMail, Permission, User
from shared.actors import ADMIN, ALL, OWNER

_TEMPLATE = "registrations_waiting"
_APPROVERS = ("manage_users", ALL)
_IS_WAITING = (
    User.approved_at.is_(None) & User.deleted_at.is_(None) & User.awaits_confirmation.is_(False)
)
_ARRIVED_AT = func.coalesce(User.email_confirmed_at, User.created_at)
_LOCK_SEED = 5


async def lock_registration_notices(session: AsyncSession) -> None:
    """Let only one process notify managers at a time, until the end of the transaction."""
    key = func.hashtextextended("registration notices", _LOCK_SEED)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def list_organizations_with_registrations(
    session: AsyncSession, before: datetime
) -> Sequence[int | None]:
    """Return the organizations with a registration that is newer than their last message.

    A registration counts from the confirmation of its address on.

    Only those whose last message is older than `before`; None means no organization.
    """
    last_message = (
        select(func.max(OutgoingMail.created_at))
        .where(
            OutgoingMail.template == _TEMPLATE,
            OutgoingMail.organization_id.is_not_distinct_from(User.organization_id),
        )
        .correlate(User)
        .scalar_subquery()
    )
    is_new = or_(last_message.is_(None), (last_message < before) & (last_message < _ARRIVED_AT))
    statement = select(User.organization_id).where(_IS_WAITING, is_new).distinct()
    return (await session.scalars(statement)).all()


async def list_waiting_users(session: AsyncSession, organization_id: int | None) -> Sequence[User]:
    """Return an organization's users who wait for approval, the newest first."""
    statement = select(User).where(
        _IS_WAITING, User.organization_id.is_not_distinct_from(organization_id)
    )
    return (await session.scalars(statement.order_by(User.id.desc()))).all()


async def list_managers(session: AsyncSession, organization_id: int | None) -> Sequence[User]:
    """Return the active users who may approve an organization's users.

    These are its owners and those with a permission that includes it; for users without an
    organization the administrators.
    """
    statement = select(User).where(User.is_active, User.deleted_at.is_(None)).order_by(User.id)
    if organization_id is None:
        statement = statement.where(User.role == ADMIN)
    else:
        is_permitted = exists().where(
            Permission.user_id == User.id,
            Permission.organization_id == organization_id,
            Permission.permission.in_(_APPROVERS),
        )
        statement = statement.where(
            User.organization_id == organization_id, or_(User.role == OWNER, is_permitted)
        )
    return (await session.scalars(statement)).all()
