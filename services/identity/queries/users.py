"""Selects of users."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.errors import UserNotFound
from services.identity.models import Permission, User
from services.identity.schemas.users import ProfileRead, UserRead
from shared.actors import ADMIN, OWNER
from shared.paging import Page
from shared.reads import Document, JsonQuery, Reader
from shared.text import contains

_NOT_DELETED = User.deleted_at.is_(None)
_LOCK_SEED = 3


@dataclass(frozen=True, slots=True)
class UserFilter:
    """The conditions of a list of users. None means no condition."""

    organization_id: int | None = None
    role: str | None = None
    is_active: bool | None = None
    pending: bool | None = None
    invited: bool | None = None
    q: str | None = None


_IS_INVITED = User.invited_at.is_not(None) & User.invitation_accepted_at.is_(None)
_SOURCE = select().select_from(User).where(_NOT_DELETED)
_FIELDS = dict(User.__table__.columns)
_TEXT = bindparam("q", type_=Text)
_LIST = JsonQuery(
    UserRead,
    _SOURCE,
    _FIELDS,
    filters={
        "organization_id": User.organization_id == bindparam("organization_id"),
        "role": User.role == bindparam("role"),
        "is_active": User.is_active == bindparam("is_active"),
        "pending": User.approved_at.is_(None),
        "approved": User.approved_at.is_not(None),
        "invited": _IS_INVITED,
        "not_invited": not_(_IS_INVITED),
        "q": contains(User.name, _TEXT) | contains(User.email, _TEXT),
    },
    order=(User.id,),
)
_OF_ORGANIZATION = {"organization_id": User.organization_id == bindparam("organization_id")}
_IS_USER = User.id == bindparam("user_id", type_=BigInteger)
_FACTS = {"version": User.version}
_DETAIL = JsonQuery(
    UserRead, _SOURCE.where(_IS_USER), _FIELDS, filters=_OF_ORGANIZATION, facts=_FACTS
)
_PERMISSIONS = (
    select(func.array_agg(aggregate_order_by(Permission.permission, Permission.permission)))
    .where(Permission.user_id == User.id)
    .correlate(User)
    .scalar_subquery()
)
_PROFILE = JsonQuery(
    ProfileRead,
    _SOURCE.where(_IS_USER),
    {**_FIELDS, "permissions": func.coalesce(_PERMISSIONS, cast([], ARRAY(Text)))},
    facts=_FACTS,
)


async def page_of_users(reader: Reader, page: Page, user_filter: UserFilter) -> bytes:
    """Return a page of users as JSON, newest first."""
    return await _LIST.page(
        reader,
        page,
        organization_id=user_filter.organization_id,
        role=user_filter.role,
        is_active=user_filter.is_active,
        pending=user_filter.pending or None,
        approved=user_filter.pending is False or None,
        invited=user_filter.invited or None,
        not_invited=user_filter.invited is False or None,
        q=user_filter.q or None,
    )


async def get_document(
    reader: Reader, user_id: int, organization_id: int | None = None
) -> Document:
    """Return a user who was not deleted as JSON, of an organization if one is named.

    The facts are the version. Raises UserNotFound.
    """
    document = await _DETAIL.find(reader, user_id=user_id, organization_id=organization_id)
    if document is None:
        raise UserNotFound
    return document


async def find_profile(reader: Reader, user_id: int) -> Document | None:
    """Return a user who was not deleted as JSON, with the permissions that were granted, or None.

    The facts are the version.
    """
    return await _PROFILE.find(reader, user_id=user_id)


async def get_user(session: AsyncSession, user_id: int, organization_id: int | None = None) -> User:
    """Return a user who was not deleted, of an organization if one is named.

    Raises UserNotFound.
    """
    user = await session.scalar(_select_user(user_id, organization_id))
    if user is None:
        raise UserNotFound
    return user


async def find_user(session: AsyncSession, user_id: int) -> User | None:
    """Return a user who was not deleted, or None."""
    return await session.scalar(_select_user(user_id, None))


async def lock_user(
    session: AsyncSession, user_id: int, organization_id: int | None = None
) -> User:
    """Return a user who was not deleted, of an organization if one is named, locked for a change.

    Access tokens are issued under this lock too, so no token contains what a change has revoked.

    Raises UserNotFound.
    """
    user = await find_user_for_update(session, user_id, organization_id)
    if user is None:
        raise UserNotFound
    return user


async def find_user_for_update(
    session: AsyncSession, user_id: int, organization_id: int | None = None
) -> User | None:
    """Return a user locked as by `lock_user`, or None."""
    statement = _select_user(user_id, organization_id).with_for_update()
    return await session.scalar(statement.execution_options(populate_existing=True))


def _select_user(user_id: int, organization_id: int | None) -> Select[User]:
    statement = select(User).where(User.id == user_id, _NOT_DELETED)
    if organization_id is not None:
        statement = statement.where(User.organization_id == organization_id)
    return statement


async def find_user_by_email(session: AsyncSession, *spellings: str) -> User | None:
    """Return the user with this address in any of its spellings, or None.

    An earlier spelling takes precedence over a later one. Two users may share an address in two
    spellings, from before that was impossible: each is found by the exact spelling.
    """
    for email in spellings:
        is_exact = func.lower(User.email) == func.lower(email)
        is_same = and_(func.folded(User.email) == func.folded(email), ~User.shares_address)
        statement = select(User).where(or_(is_exact, is_same), _NOT_DELETED)
        user = await session.scalar(statement.order_by(is_exact.desc()).limit(1))
        if user is not None:
            return user
    return None


async def list_owners(session: AsyncSession, organization_id: int) -> Sequence[User]:
    """Return an organization's owners, the first one first."""
    statement = select(User).where(
        User.organization_id == organization_id, User.role == OWNER, _NOT_DELETED
    )
    return (await session.scalars(statement.order_by(User.id))).all()


async def find_first_administrator(session: AsyncSession) -> User | None:
    """Return the oldest active administrator of the system, or None.

    Takes a lock until the end of the transaction, so that only one process creates the first one.
    """
    await _lock_group(session, "administrators")
    statement = select(User).where(User.role == ADMIN, User.is_active, _NOT_DELETED)
    return await session.scalar(statement.order_by(User.id).limit(1))


async def is_last_owner(session: AsyncSession, user: User) -> bool:
    """Return whether the organization has no other active owner; see `_is_last`."""
    owners = select(User.id).where(User.organization_id == user.organization_id, User.role == OWNER)
    return await _is_last(session, f"owners {user.organization_id}", user, owners)


async def is_last_administrator(session: AsyncSession, user: User) -> bool:
    """Return whether the system has no other active administrator; see `_is_last`."""
    administrators = select(User.id).where(User.role == ADMIN)
    return await _is_last(session, "administrators", user, administrators)


async def _is_last(session: AsyncSession, group: str, user: User, members: Select[int]) -> bool:
    # Of two users who leave at once, the second waits here and then counts without the first.
    await _lock_group(session, group)
    others = members.where(User.id != user.id, User.is_active).limit(1)
    return await session.scalar(others) is None


async def _lock_group(session: AsyncSession, group: str) -> None:
    lock = func.pg_advisory_xact_lock(func.hashtextextended(group, _LOCK_SEED))
    await session.execute(select(lock))
