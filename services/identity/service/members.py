"""Users of an organization, as its owners and those who may manage users see them."""

from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import access, queries
from services.identity.errors import OrganizationNotFound
from services.identity.models import User
from services.identity.queries import UserFilter
from services.identity.schemas.users import MemberCreate
from services.identity.service import (
    accounts,
    attempt_limits,
    invitations,
    organizations,
    user_changes,
)
from services.identity.service.resources import Resources
from shared.actors import Actor
from shared.paging import Page
from shared.preconditions import Precondition
from shared.reads import Document, Reader
from shared.work import Work


async def list_members(
    work: Work,
    reader: Reader,
    actor: Actor,
    organization_id: int,
    page: Page,
    user_filter: UserFilter,
) -> bytes:
    """Return a page of an organization's users as JSON.

    Raises OrganizationNotFound, Forbidden.
    """
    access.require_manager(actor, organization_id)
    if actor.is_admin:
        async with work.begin() as session:
            if await queries.find_organization_copy(session, organization_id) is None:
                raise OrganizationNotFound
    of_organization = replace(user_filter, organization_id=organization_id)
    return await queries.page_of_users(reader, page, of_organization)


async def add_member(
    work: Work, actor: Actor, resources: Resources, organization_id: int, body: MemberCreate
) -> User:
    """Add a user to an organization, active at once or invited.

    Raises OrganizationNotFound, Forbidden, EmailTaken, Invalid (a weak password),
    ServiceUnavailable.
    """
    access.require_manager(actor, organization_id)
    access.require_role(actor, body.role, organization_id)
    organization = await organizations.get(work, resources.clients, organization_id)
    user = await accounts.new_member(
        resources, body, organization_id, organization.slug, actor.user_id
    )
    return await accounts.insert(work, user, announce=invitations.send_if_invited)


async def send_invitation(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int
) -> User:
    """Send an invitation again.

    Raises OrganizationNotFound, Forbidden, UserNotFound, NotInvited, TooManyAttempts.
    """
    access.require_manager(actor, organization_id)
    await queries.get_user(session, user_id, organization_id)
    await attempt_limits.count_link(session, user_id)
    user = await user_changes.lock(session, actor, user_id, organization_id)
    await invitations.send_again(session, user)
    return user


async def withdraw_invitation(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int
) -> None:
    """Withdraw an invitation and delete its user.

    Raises OrganizationNotFound, Forbidden, UserNotFound, NotInvited.
    """
    access.require_manager(actor, organization_id)
    user = await user_changes.lock(session, actor, user_id, organization_id)
    invitations.require_invited(user)
    await user_changes.delete(session, actor, user)


async def get_member(reader: Reader, actor: Actor, organization_id: int, user_id: int) -> Document:
    """Return a user of an organization as JSON.

    Raises OrganizationNotFound, Forbidden, UserNotFound.
    """
    access.require_manager(actor, organization_id)
    return await queries.get_document(reader, user_id, organization_id)


async def update_member(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    user_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> User:
    """Change a user of an organization.

    Raises OrganizationNotFound, Forbidden, UserNotFound, StaleVersion, EmailTaken, NotYetApproved,
    OwnAccount, LastOwner.
    """
    access.require_manager(actor, organization_id)
    user = await user_changes.lock(session, actor, user_id, organization_id)
    await user_changes.update(session, actor, user, changes, precondition)
    return user


async def remove_member(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int
) -> None:
    """Remove a user from an organization.

    A user who was never approved, or has not accepted an invitation, is deleted: no manager could
    approve the account any more, and its address could not register anywhere else.

    Raises OrganizationNotFound, Forbidden, UserNotFound, OwnAccount, LastOwner.
    """
    access.require_manager(actor, organization_id)
    user = await user_changes.lock(session, actor, user_id, organization_id)
    if user.is_invited or (user.awaits_approval and user.last_login is None):
        await user_changes.delete(session, actor, user)
    else:
        changes = {"organization_id": None}
        await user_changes.update(session, actor, user, changes, Precondition(None))


async def approve_member(
    session: AsyncSession, actor: Actor, organization_id: int, user_id: int
) -> User:
    """Approve a user who registered with an organization.

    Raises OrganizationNotFound, Forbidden, UserNotFound, AlreadyApproved.
    """
    access.require_manager(actor, organization_id)
    user = await user_changes.lock(session, actor, user_id, organization_id)
    await user_changes.approve(session, actor, user)
    return user
