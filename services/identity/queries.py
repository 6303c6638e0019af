"""Every select of this service, and the few set-based updates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.models import (
    OrganizationCopy,
    Permission,
    RefreshToken,
    SignInSession,
    User,
)
from services.identity.schemas import UserRead
from shared.actors import ADMIN, OWNER
from shared.db import now
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


async def permissions_of(session: AsyncSession, user_id: int) -> Sequence[Permission]:
    """Return what a user was granted, in order of the names."""
    statement = select(Permission).where(Permission.user_id == user_id)
    return (await session.scalars(statement.order_by(Permission.permission))).all()


async def find_permission(
    session: AsyncSession, user_id: int, permission: str
) -> Permission | None:
    """Return one permission of a user, or None."""
    return await session.scalar(
        select(Permission).where(Permission.user_id == user_id, Permission.permission == permission)
    )


async def lock_organization_copy(session: AsyncSession, organization_id: int) -> None:
    """Let nobody else write our copy of an organization, or make its first owner, until we have.

    Not the row's lock: there may be no row yet.
    """
    key = func.hashtextextended(f"organization copy {organization_id}", 4)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def find_organization_copy(
    session: AsyncSession, organization_id: int
) -> OrganizationCopy | None:
    """Return a whole copy of an organization, or None."""
    copy = await session.get(OrganizationCopy, organization_id)
    return copy if copy is not None and copy.is_complete else None


async def find_organization_copy_by_slug(
    session: AsyncSession, slug: str
) -> OrganizationCopy | None:
    """Return a whole copy of the organization with this slug, or None."""
    copy = await session.scalar(select(OrganizationCopy).where(OrganizationCopy.slug == slug))
    return copy if copy is not None and copy.is_complete else None


async def has_signed_in_from(
    session: AsyncSession, user_id: int, network: str, since: datetime | None
) -> bool:
    """Say whether the user has signed in from there before (as far as we keep sessions).

    Sessions that were not used since the last password was set do not count.
    """
    statement = select(SignInSession.id).where(
        SignInSession.user_id == user_id, SignInSession.network == network
    )
    if since is not None:
        statement = statement.where(SignInSession.last_used_at >= since)
    return await session.scalar(statement.limit(1)) is not None


async def list_live_sessions(session: AsyncSession, user_id: int) -> Sequence[SignInSession]:
    """Return a user's live sessions, the one used last first."""
    statement = select(SignInSession).where(
        SignInSession.user_id == user_id,
        SignInSession.ended_at.is_(None),
        SignInSession.expires_at > now(),
    )
    return (await session.scalars(statement.order_by(SignInSession.last_used_at.desc()))).all()


async def find_refresh_token(
    session: AsyncSession, token_hash: bytes
) -> tuple[SignInSession, RefreshToken] | None:
    """Return a refresh token with its session, not locked, or None."""
    statement = (
        select(SignInSession, RefreshToken)
        .join(RefreshToken, RefreshToken.session_id == SignInSession.id)
        .where(RefreshToken.token_hash == token_hash)
    )
    row = (await session.execute(statement)).one_or_none()
    return (row[0], row[1]) if row else None


async def lock_session(session: AsyncSession, session_id: UUID) -> SignInSession:
    """Return a session that exists, locked, as it is now."""
    return await session.get_one(
        SignInSession, session_id, with_for_update=True, populate_existing=True
    )


async def end_sessions(
    session: AsyncSession, user_id: int, reason: str, *, but: UUID | None = None
) -> list[str]:
    """End a user's live sessions, all or all but one; return the ended ones' ids."""
    statement = update(SignInSession).where(
        SignInSession.user_id == user_id, SignInSession.ended_at.is_(None)
    )
    if but is not None:
        statement = statement.where(SignInSession.id != but)
    ended = await session.scalars(
        statement.values(ended_at=now(), end_reason=reason).returning(SignInSession.id),
        execution_options={"synchronize_session": False},
    )
    return [str(id_) for id_ in ended]


async def erase_refresh_answers(session: AsyncSession, before: datetime) -> None:
    """Erase what refresh tokens were exchanged for that were used before an instant."""
    old = (RefreshToken.used_at < before) & RefreshToken.answer.is_not(None)
    await session.execute(update(RefreshToken).where(old).values(answer=None))


async def delete_expired_sessions(session: AsyncSession, before: datetime) -> None:
    """Drop the sessions that ended or ran out before an instant, with their tokens."""
    old = (SignInSession.ended_at < before) | (SignInSession.expires_at < before)
    await session.execute(delete(SignInSession).where(old))


async def list_revocations(
    session: AsyncSession, age: timedelta
) -> tuple[list[str], dict[int, float], dict[int, int]]:
    """Return what became void within `age`: sessions, users' tokens (with the instant from which
    on new ones count), organizations that are closed (with the version that closed them)."""
    since = now() - age
    sessions = await session.scalars(select(SignInSession.id).where(SignInSession.ended_at > since))
    users = await session.execute(
        select(User.id, User.tokens_not_before).where(User.tokens_not_before > since)
    )
    found = await session.execute(
        select(OrganizationCopy.id, OrganizationCopy.is_active_version).where(
            OrganizationCopy.is_active.is_(False), OrganizationCopy.updated_at > since
        )
    )
    closed = {copy.id: copy.is_active_version for copy in found}
    instants = {id_: round(instant.timestamp(), 3) for id_, instant in users if instant is not None}
    return [str(id_) for id_ in sessions], instants, closed
