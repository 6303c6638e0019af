"""Selects of users."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import (
    User,
)
from services.identity.schemas import UserRead
from shared.actors import ADMIN, OWNER
from shared.paging import Page
from shared.text import contains

_READ = [getattr(User, name) for name in UserRead.model_fields]
_LIVING = User.deleted_at.is_(None)


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users a list is about; what is None does not matter."""

    organization_id: int | None = None
    role: str | None = None
    is_active: bool | None = None
    pending: bool | None = None
    q: str | None = None

    def apply(self, statement: Select[Any]) -> Select[Any]:
        """Narrow a statement down."""
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
    session: AsyncSession, page: Page, wanted: UserFilter
) -> list[Row[tuple[object, ...]]]:
    """Return a page of users, newest first."""
    statement = page.of(wanted.apply(select(*_READ).where(_LIVING)), User.id)
    rows = (await session.execute(statement)).all()
    return page.cut(rows, lambda row: (row.id,))


async def find_user(
    session: AsyncSession, user_id: int, organization_id: int | None = None
) -> User | None:
    """Return a user who was not deleted, of an organization if one is named, or None."""
    return await session.scalar(_one_user(user_id, organization_id))


async def lock_user(
    session: AsyncSession, user_id: int, organization_id: int | None = None
) -> User | None:
    """Return the same, locked for a change.

    Whoever issues tokens takes the lock too: no token says what a change has made untrue.
    """
    statement = _one_user(user_id, organization_id).with_for_update()
    return await session.scalar(statement.execution_options(populate_existing=True))


def _one_user(user_id: int, organization_id: int | None) -> Select[User]:
    statement = select(User).where(User.id == user_id, _LIVING)
    if organization_id is not None:
        statement = statement.where(User.organization_id == organization_id)
    return statement


async def find_user_by_email(session: AsyncSession, *spellings: str) -> User | None:
    """Return the user with this address, however it is spelt, or None; the first spelling counts
    before the others.

    Users who share an address in two spellings since before that was impossible are told apart by
    their own spelling.
    """
    for email in spellings:
        exact = func.lower(User.email) == func.lower(email)
        same = and_(func.folded(User.email) == func.folded(email), ~User.shares_address)
        statement = select(User).where(or_(exact, same), _LIVING)
        user = await session.scalar(statement.order_by(exact.desc()).limit(1))
        if user is not None:
            return user
    return None


async def owners_of(session: AsyncSession, organization_id: int) -> Sequence[User]:
    """Return an organization's owners, the first one first."""
    statement = select(User).where(
        User.organization_id == organization_id, User.role == OWNER, _LIVING
    )
    return (await session.scalars(statement.order_by(User.id))).all()


async def is_last_owner(session: AsyncSession, user: User) -> bool:
    """Say whether the organization has no other active owner; see `_alone`."""
    others = select(User.id).where(User.organization_id == user.organization_id, User.role == OWNER)
    return await _alone(session, f"owners {user.organization_id}", user, others)


async def find_first_administrator(session: AsyncSession) -> User | None:
    """Return the oldest active system administrator, or None where none was made yet.

    Whoever asks in order to make one is alone until the transaction's end.
    """
    lock = func.pg_advisory_xact_lock(func.hashtextextended("administrators", 3))
    await session.execute(select(lock))
    found = select(User).where(User.role == ADMIN, User.is_active, _LIVING)
    return await session.scalar(found.order_by(User.id).limit(1))


async def is_last_administrator(session: AsyncSession, user: User) -> bool:
    """Say whether the system has no other active administrator; see `_alone`."""
    return await _alone(session, "administrators", user, select(User.id).where(User.role == ADMIN))


async def _alone(session: AsyncSession, group: str, user: User, members: Select[int]) -> bool:
    # Of two who leave at once, the second waits here and then counts without the first.
    lock = func.pg_advisory_xact_lock(func.hashtextextended(group, 3))
    await session.execute(select(lock))
    others = members.where(User.id != user.id, User.is_active).limit(1)
    return await session.scalar(others) is None
