"""Owners of new organizations, at the request of the organizations service."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import OwnerExists, UserNotFound
from services.identity.models import User
from services.identity.schemas.users import OwnerOrder
from services.identity.service import accounts, organizations
from services.identity.service.resources import Resources
from shared.actors import OWNER
from shared.work import Work


async def create_owner(work: Work, resources: Resources, order: OwnerOrder) -> User:
    """Create the owner of a new organization. A repeated request returns the same user.

    Raises EmailTaken, OwnerExists, Invalid (a weak password).
    """
    async with work.begin() as session:
        owner = await _find_owner(session, order)
    if owner is not None:
        return owner
    password_hash = await resources.passwords.hash_new(
        order.password, accounts.texts_of(order, order.organization.slug)
    )
    user = accounts.new_user(order, password_hash, OWNER, order.organization.id)
    user.approve(work.origin.user_id)
    async with accounts.unique_address(), work.begin() as session:
        # Locks the organization: of two requests at once the second waits, and finds the owner.
        await organizations.store(session, order.organization)
        owner = await _find_owner(session, order)
        if owner is None:
            await accounts.add(session, user)
    return owner or user


async def get_first_owner(session: AsyncSession, organization_id: int) -> User:
    """Return an organization's first owner; raises UserNotFound."""
    owners = await queries.list_owners(session, organization_id)
    if not owners:
        raise UserNotFound
    return owners[0]


async def _find_owner(session: AsyncSession, order: OwnerOrder) -> User | None:
    """Return the owner with the requested address, or None when there is no owner yet.

    Raises OwnerExists when the owners have other addresses.
    """
    owners = await queries.list_owners(session, order.organization.id)
    if not owners:
        return None
    user = await queries.find_user_by_email(session, order.email)
    if user is None or user.id not in {owner.id for owner in owners}:
        raise OwnerExists
    return user
