"""New accounts: a user is built, checked and inserted, however the user came to be one."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import EmailTaken
from services.identity.models import NO_PASSWORD, User
from services.identity.schemas.users import MemberCreate, OwnerOrder, Registration
from services.identity.service.resources import Resources
from shared.changes import record
from shared.tenancy import see_all_tenants
from shared.work import Work

AccountFields = MemberCreate | Registration | OwnerOrder
Announcement = Callable[[AsyncSession, User], Awaitable[None]]
"""Sends a new user a message, in the transaction that inserts the user."""


@asynccontextmanager
async def unique_address() -> AsyncIterator[None]:
    """Raise EmailTaken when the database refuses a second user with one address.

    The unique index decides. A query beforehand could not: two requests at once would both pass.
    """
    try:
        yield
    except IntegrityError as error:
        if "uq_users_email" in str(error.orig):
            raise EmailTaken from None
        raise


def texts_of(fields: AccountFields, organization: str | None) -> list[str]:
    """Return the texts about a new user that the password must not consist of."""
    return [text for text in (fields.email, fields.name, organization) if text]


async def texts_of_user(session: AsyncSession, user: User) -> list[str]:
    """Return the texts about a user that another password must not consist of."""
    copy = None
    if user.organization_id is not None:
        copy = await queries.find_organization_copy(session, user.organization_id)
    organization = copy.slug if copy else user.requested_organization
    return [text for text in (user.email, user.name, organization) if text]


def new_user(
    fields: AccountFields, password_hash: str, role: str, organization_id: int | None
) -> User:
    """Return a user who has not been approved yet."""
    user = User(
        email=fields.email,
        name=fields.name or fields.email.partition("@")[0],
        phone=fields.phone,
        locale=fields.locale,
        password_hash=password_hash,
        organization_id=organization_id,
        is_active=False,
    )
    user.set_role(role)
    return user


async def new_member(
    resources: Resources,
    fields: MemberCreate,
    organization_id: int | None,
    organization: str | None,
    adder_id: int,
) -> User:
    """Return a user whom another one adds: active with a password, and invited without.

    Raises Invalid (a weak password), PasswordQueueFull.
    """
    if fields.password is None:
        user = new_user(fields, NO_PASSWORD, fields.role, organization_id)
        user.invite(adder_id)
        return user
    password_hash = await resources.passwords.hash_new(
        fields.password, texts_of(fields, organization)
    )
    user = new_user(fields, password_hash, fields.role, organization_id)
    user.approve(adder_id)
    return user


async def insert(work: Work, user: User, *, announce: Announcement | None = None) -> User:
    """Insert a user in a transaction of its own; raises EmailTaken.

    When an earlier attempt with the same Idempotency-Key inserted a user already, that one is
    returned.
    """
    async with unique_address(), work.begin() as session:
        if work.origin.user_id is None:
            await see_all_tenants(session)
        if work.claim and work.claim.resource_id is not None:
            existing = await queries.find_user(session, work.claim.resource_id)
            if existing is not None:
                return existing
        await add(session, user)
        if announce is not None:
            await announce(session, user)
        if work.claim:
            await work.claim.attach(session, user.id)
    return user


async def add(session: AsyncSession, user: User) -> None:
    """Add a user to the transaction and record the creation."""
    session.add(user)
    record(session, "CREATE", user)
    if user.requested_organization is not None:
        details: dict[str, Any] = {"organization_name": user.requested_organization}
        record(session, "REQUEST_ORGANIZATION", user, **details)
    await session.flush()
