"""How users come to be: they register, or somebody who may adds them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import policies, queries
from services.identity.errors import (
    EmailTaken,
    OrganizationNotFound,
    OwnerExists,
    RegistrationClosed,
)
from services.identity.models import CLIENT, User
from services.identity.schemas import MemberCreate, OwnerOrder, Registration, UserCreate
from services.identity.service import attempt_limits, organizations
from services.identity.service.resources import Resources
from shared.actors import OWNER, Actor
from shared.changes import record
from shared.errors import Forbidden
from shared.networks import network_of
from shared.tenancy import EVERYTHING
from shared.work import Work


@asynccontextmanager
async def address_must_be_free() -> AsyncIterator[None]:
    """Turn the database's refusal of a second user with one address into EmailTaken.

    The unique index decides and not a look beforehand: of two at once one would slip through.
    """
    try:
        yield
    except IntegrityError as error:
        if "uq_users_email" in str(error.orig):
            raise EmailTaken from None
        raise


def new_user(
    fields: MemberCreate | Registration | OwnerOrder,
    password_hash: str,
    role: str,
    organization_id: int | None,
) -> User:
    """Return a user who is not let in yet."""
    user = User(
        email=fields.email,
        name=fields.name,
        phone=fields.phone,
        password_hash=password_hash,
        organization_id=organization_id,
        is_active=False,
    )
    user.set_role(role)
    return user


async def register(work: Work, resources: Resources, body: Registration) -> User:
    """Register a client, who waits for approval.

    Raises RegistrationClosed, TooManyAttempts, EmailTaken, OrganizationNotFound (also for a closed
    one), Invalid (a weak password), ServiceUnavailable.
    """
    if not resources.settings.self_registration:
        raise RegistrationClosed
    network = network_of(work.origin.ip_address)
    limit = resources.settings.registrations_per_address
    async with work.begin(EVERYTHING) as session:
        await attempt_limits.count_attempt(
            session, attempt_limits.registration_counters(network, limit)
        )
    organization_id = await _registered_with(work, resources, body.organization_slug)
    about = about_password(body, body.organization_slug)
    hashed = await resources.passwords.hash_new(body.password, about)
    return await _insert(work, new_user(body, hashed, CLIENT, organization_id))


async def _registered_with(work: Work, resources: Resources, slug: str | None) -> int | None:
    if slug is None:
        return None
    organization = await organizations.find_by_slug(work, resources.clients, slug)
    if organization is None or not organization.is_active:
        raise OrganizationNotFound
    return organization.id


async def add_user(work: Work, resources: Resources, actor: Actor, body: UserCreate) -> User:
    """Add a user as an administrator, active at once; with a new organization when one is named.

    Raises EmailTaken, OrganizationNotFound, Invalid (a weak password), ServiceUnavailable.
    """
    organization = body.organization_name
    if body.organization_id is not None:
        organization = await require_organization(work, resources, body.organization_id)
    about = about_password(body, organization)
    hashed = await resources.passwords.hash_new(body.password, about)
    user = new_user(body, hashed, body.role, body.organization_id)
    user.requested_organization = body.organization_name
    user.approve(actor.user_id)
    return await _insert(work, user)


async def require_organization(
    work: Work, resources: Resources, organization_id: int
) -> str | None:
    """Return an organization's slug.

    Raises OrganizationNotFound, or ServiceUnavailable when it cannot be known just now.
    """
    organization = await organizations.find(work, resources.clients, organization_id)
    if organization is None:
        raise OrganizationNotFound
    return organization.slug


def about_password(
    fields: MemberCreate | Registration | OwnerOrder, organization: str | None
) -> list[str]:
    """Return the texts about a new user that the password must not consist of."""
    return [text for text in (fields.email, fields.name, organization) if text]


async def add_member(
    work: Work, resources: Resources, actor: Actor, organization_id: int, body: MemberCreate
) -> User:
    """Add a user to an organization, active at once.

    Raises OrganizationNotFound, Forbidden, EmailTaken, Invalid (a weak password),
    ServiceUnavailable.
    """
    require_manager(actor, organization_id)
    if not policies.can_give_role(actor, body.role, organization_id):
        raise Forbidden(f"the role {body.role} brings rights that you do not hold")
    about = about_password(body, await require_organization(work, resources, organization_id))
    hashed = await resources.passwords.hash_new(body.password, about)
    user = new_user(body, hashed, body.role, organization_id)
    user.approve(actor.user_id)
    return await _insert(work, user)


def require_manager(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers and Forbidden for members who may not manage."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound
    actor.require(policies.MANAGE_USERS, organization_id)


async def require_managed(session: AsyncSession, actor: Actor, organization_id: int) -> None:
    """The same, and OrganizationNotFound for an administrator too when there is none."""
    require_manager(actor, organization_id)
    if actor.is_admin and await queries.find_organization_copy(session, organization_id) is None:
        raise OrganizationNotFound


async def _insert(work: Work, user: User) -> User:
    """Insert a user; an attempt that was interrupted after it had done so is gone on with."""
    tenant = EVERYTHING if work.origin.user_id is None else None
    async with address_must_be_free(), work.begin(tenant) as session:
        if work.claim and work.claim.resource_id is not None:
            made = await queries.find_user(session, work.claim.resource_id)
            if made is not None:
                return made
        await _add(session, user)
        if work.claim:
            await work.claim.attach(session, user.id)
    return user


async def _add(session: AsyncSession, user: User) -> None:
    session.add(user)
    record(session, "CREATE", user)
    if user.requested_organization is not None:
        details: dict[str, Any] = {"organization_name": user.requested_organization}
        record(session, "REQUEST_ORGANIZATION", user, **details)
    await session.flush()


async def make_owner(work: Work, resources: Resources, order: OwnerOrder) -> User:
    """Make the owner of an organization that is being founded; asked again, the same one.

    Raises EmailTaken, OwnerExists, Invalid (a weak password).
    """
    async with work.begin() as session:
        made = await _find_owner(session, order)
    if made is not None:
        return made
    about = about_password(order, order.organization.slug)
    hashed = await resources.passwords.hash_new(order.password, about)
    user = new_user(order, hashed, OWNER, order.organization.id)
    user.approve(work.origin.user_id)
    async with address_must_be_free(), work.begin() as session:
        # Locks the organization: of two orders at once the second waits, and finds the owner.
        await organizations.take(session, order.organization)
        made = await _find_owner(session, order)
        if made is None:
            await _add(session, user)
    return made or user


async def _find_owner(session: AsyncSession, order: OwnerOrder) -> User | None:
    owners = await queries.owners_of(session, order.organization.id)
    if not owners:
        return None
    same = await queries.find_user_by_email(session, order.email)
    if same is None or same.id not in {owner.id for owner in owners}:
        raise OwnerExists
    return same
