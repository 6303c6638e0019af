"""Users of the whole system, as its administrators see them."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import access, queries
from services.identity.models import CLIENT, EndReason, User
from services.identity.queries import UserFilter
from services.identity.schemas.users import UserCopy, UserCreate, UserUpdate
from services.identity.service import (
    accounts,
    attempt_limits,
    invitations,
    links,
    notices,
    organizations,
    user_changes,
)
from services.identity.service.resources import Resources
from shared.actors import Actor
from shared.changes import record
from shared.paging import Page
from shared.preconditions import Precondition
from shared.reads import Document, Reader
from shared.work import Work


async def list_users(reader: Reader, actor: Actor, page: Page, user_filter: UserFilter) -> bytes:
    """Return a page of users as JSON; raises Forbidden."""
    access.require_admin(actor)
    return await queries.page_of_users(reader, page, user_filter)


async def add_user(work: Work, actor: Actor, resources: Resources, body: UserCreate) -> User:
    """Add a user, active at once or invited; with a new organization when one is named.

    Raises Forbidden, EmailTaken, OrganizationNotFound, Invalid (a weak password),
    ServiceUnavailable.
    """
    access.require_admin(actor)
    access.require_role(actor, body.role, body.organization_id)
    organization_name = body.organization_name
    if body.organization_id is not None:
        copy = await organizations.get(work, resources.clients, body.organization_id)
        organization_name = copy.slug
    user = await accounts.new_member(
        resources, body, body.organization_id, organization_name, actor.user_id
    )
    user.requested_organization = body.organization_name
    return await accounts.insert(work, user, announce=invitations.send_if_invited)


async def get_user(reader: Reader, actor: Actor, user_id: int) -> Document:
    """Return any user as JSON; raises Forbidden, UserNotFound."""
    access.require_admin(actor)
    return await queries.get_document(reader, user_id)


async def copy_user(session: AsyncSession, user_id: int) -> UserCopy:
    """Return any user or dependant to another service, which stores a copy.

    Raises UserNotFound.
    """
    dependant = await queries.find_dependant(session, user_id)
    if dependant is None:
        return UserCopy.model_validate(await queries.get_user(session, user_id))
    names = ("id", "version", "name", "organization_id", "is_active", "guardian_id")
    fields = {name: getattr(dependant, name) for name in names}
    return UserCopy(**fields, email=None, role=CLIENT)


async def update_user(
    work: Work,
    actor: Actor,
    resources: Resources,
    user_id: int,
    body: UserUpdate,
    precondition: Precondition,
) -> User:
    """Change any user.

    Raises Forbidden, UserNotFound, OrganizationNotFound, StaleVersion, EmailTaken, NotYetApproved,
    OwnAccount, LastOwner, LastAdministrator, OwnerNeedsOrganization, ServiceUnavailable.
    """
    access.require_admin(actor)
    if body.organization_id is not None:
        await organizations.get(work, resources.clients, body.organization_id)
    async with work.begin() as session:
        user = await user_changes.lock(session, actor, user_id)
        await user_changes.update(session, actor, user, body.changes(), precondition)
    return user


async def delete_user(session: AsyncSession, actor: Actor, user_id: int) -> None:
    """Replace a user by a pseudonym.

    Raises Forbidden, UserNotFound, OwnAccount, LastOwner, LastAdministrator.
    """
    access.require_admin(actor)
    user = await user_changes.lock(session, actor, user_id)
    await user_changes.delete(session, actor, user)


async def send_invitation(session: AsyncSession, actor: Actor, user_id: int) -> User:
    """Send an invitation again; raises Forbidden, UserNotFound, NotInvited, TooManyAttempts."""
    access.require_admin(actor)
    await queries.get_user(session, user_id)
    await attempt_limits.count_link(session, user_id)
    user = await user_changes.lock(session, actor, user_id)
    await invitations.send_again(session, user)
    return user


async def withdraw_invitation(session: AsyncSession, actor: Actor, user_id: int) -> None:
    """Withdraw an invitation and delete its user; raises Forbidden, UserNotFound, NotInvited."""
    access.require_admin(actor)
    user = await user_changes.lock(session, actor, user_id)
    invitations.require_invited(user)
    await user_changes.delete(session, actor, user)


async def set_password(
    work: Work, actor: Actor, resources: Resources, user_id: int, password: str
) -> None:
    """Set a user's password and end every session of the user.

    Raises Forbidden, UserNotFound, InvitationPending, Invalid (a weak password),
    PasswordQueueFull.
    """
    access.require_admin(actor)
    async with work.begin() as session:
        user = await queries.get_user(session, user_id)
        user_changes.require_joined(user)
        texts = await accounts.texts_of_user(session, user)
    password_hash = await resources.passwords.hash_new(password, texts)
    async with work.begin() as session:
        user = await user_changes.lock(session, actor, user_id)
        user_changes.require_joined(user)
        user.set_password(password_hash)
        await queries.end_sessions(session, user.id, EndReason.PASSWORD_CHANGED)
        await links.withdraw_resets(session, user)
        record(session, "CHANGE_PASSWORD", user, **user.invalidate_tokens())
        await session.flush()
        await notices.notify_password_changed(session, user, by=notices.ChangedBy.ADMINISTRATOR)


async def approve_user(session: AsyncSession, actor: Actor, user_id: int) -> User:
    """Approve a user who registered; raises Forbidden, UserNotFound, AlreadyApproved."""
    access.require_admin(actor)
    user = await user_changes.lock(session, actor, user_id)
    await user_changes.approve(session, actor, user)
    return user
