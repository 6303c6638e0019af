"""Selects of users."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from services.identity.errors import UserNotFound
from services.identity.models import User
from shared.actors import ADMIN, OWNER
from shared.paging import Page
from shared.text import contains

_LISTED_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (
    User.id,
    User.email,
    User.name,
    User.phone,
    User.role,
    User.organization_id,
    User.is_organization_owner,
    User.is_active,
    User.approved_at,
    User.approved_by,
    User.last_login,
    User.requested_organization,
    User.created_at,
    User.updated_at,
)
_NOT_DELETED = User.deleted_at.is_(None)
_LOCK_SEED = 3


@dataclass(frozen=True, slots=True)
class UserFilter:
    """The conditions of a list of users. None means no condition."""

    organization_id: int | None = None
    role: str | None = None
    is_active: bool | None = None
    pending: bool | None = None
    q: str | None = None

    def apply(self, statement: Select[Any]) -> Select[Any]:
        """Return the statement with these conditions."""
        if self.organization_id is not None:
            statement = statement.where(User.organization_id == self.organization_id)
        if self.role is not None:
            statement = statement.where(User.role == self.role)
        if self.is_active is not None:
            statement = statement.where(User.is_active == self.is_active)
        if self.pending is not None:
            waits = User.approved_at.is_(None)
            statement = statement.where(waits if self.pending else ~waits)
        if self.q:
            statement = statement.where(contains(User.name, self.q) | contains(User.email, self.q))
        return statement


async def page_of_users(
    session: AsyncSession, page: Page, user_filter: UserFilter
) -> list[Row[tuple[object, ...]]]:
    """Return a page of users, newest first."""
    statement = page.of(user_filter.apply(select(*_LISTED_COLUMNS).where(_NOT_DELETED)), User.id)
    rows = (await session.execute(statement)).all()
    return page.cut(rows, lambda row: (row.id,))


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
