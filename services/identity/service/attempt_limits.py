"""Limits of attempts, counted in PostgreSQL so that all instances count together.

An attempt is counted before its password is verified, so that many at once do not pass the limit;
a successful attempt is withdrawn. Three counters limit an unknown client: account and address
together, the account from everywhere, and the address for every account. A client that signed in
before, from this device or address, has other counters and none of these three: a flood against an
account from elsewhere does not keep its owner out. All devices of an account share one counter,
and all its addresses share another: collecting them allows no more attempts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from sqlalchemy import case, delete, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import TooManyAttempts
from services.identity.models import AttemptCount
from shared.db import now
from shared.tenancy import see_all_tenants
from shared.text import fold
from shared.work import Work

WINDOW = timedelta(minutes=15)
PER_ACCOUNT_AND_ADDRESS = 10
PER_ACCOUNT = 100
PER_ADDRESS = 100
PER_KNOWN_DEVICE = 20
PER_USER_PASSWORD_CHANGE = 10
PER_USER_CODE = 10

HOUR = timedelta(hours=1)
LINK_REQUESTS_PER_ACCOUNT_AND_ADDRESS = 5
LINK_REQUESTS_PER_ADDRESS = 100
LINKS_PER_ACCOUNT = 10
"""Messages with a link that one account gets in an hour."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A name under which attempts are counted, and how many of them a window allows."""

    name: str
    limit: int
    window: timedelta = WINDOW

    @property
    def key(self) -> bytes:
        """Return the key in the database: a hash, since the name may contain personal data."""
        return hashlib.sha256(self.name.encode(errors="replace")).digest()


def account_key(user_id: int | None, email: str) -> str:
    """Return the name of an account in counters: the user's id, or the folded address."""
    return f"user {user_id}" if user_id is not None else f"address {fold(email)}"


def unknown_client_counters(account: str, network: str) -> list[Counter]:
    """Return the counters of a sign-in from a device and network that the account does not know."""
    return [
        Counter(f"account and address\n{account}\n{network}", PER_ACCOUNT_AND_ADDRESS),
        Counter(f"account\n{account}", PER_ACCOUNT),
        Counter(f"address\n{network}", PER_ADDRESS),
    ]


def known_device_counters(account: str, since: datetime | None) -> list[Counter]:
    """Return the counter of sign-ins from known devices; `since` is when the password was set."""
    return [Counter(f"known devices\n{account}\n{since}", PER_KNOWN_DEVICE)]


def known_network_counters(account: str, since: datetime | None, network: str) -> list[Counter]:
    """Return the counters of a sign-in from a known network; `since` as for devices."""
    return [
        Counter(f"known address\n{account}\n{since}\n{network}", PER_KNOWN_DEVICE),
        Counter(f"known addresses\n{account}\n{since}", PER_ACCOUNT),
    ]


def registration_counters(network: str, limit: int) -> list[Counter]:
    """Return the counter of registrations from a network in an hour."""
    return [Counter(f"registrations\n{network}", limit, HOUR)]


def link_request_counters(account: str, network: str) -> list[Counter]:
    """Return the counters of requests for a link by somebody who is not signed in."""
    return [
        Counter(
            f"link requests\n{account}\n{network}", LINK_REQUESTS_PER_ACCOUNT_AND_ADDRESS, HOUR
        ),
        Counter(f"link requests\n{network}", LINK_REQUESTS_PER_ADDRESS, HOUR),
    ]


def link_counters(account: str) -> list[Counter]:
    """Return the counter of messages with a link to an account, whoever requested them.

    Count before the user is locked: two transactions must not wait for each other.
    """
    return [Counter(f"links\n{account}", LINKS_PER_ACCOUNT, HOUR)]


def password_change_counters(user_id: int) -> list[Counter]:
    """Return the counter of a signed-in user's wrong present passwords."""
    return [Counter(f"password change\n{user_id}", PER_USER_PASSWORD_CHANGE)]


def second_factor_counters(user_id: int) -> list[Counter]:
    """Return the counter of wrong codes of a user's second factor, from everywhere.

    Only who knows the password, or is signed in, can guess at codes.
    """
    return [Counter(f"second factor\n{user_id}", PER_USER_CODE)]


async def count_attempt(session: AsyncSession, counters: Sequence[Counter]) -> None:
    """Count an attempt under each counter.

    Raises TooManyAttempts when one of them is full; then nothing is counted.
    """
    await _require_not_full(session, counters)
    table = AttemptCount.__table__.c
    rows = [
        {"key": counter.key, "count": 1, "ends_at": now() + counter.window}
        # Always in one order: two attempts that share counters must not wait for each other.
        for counter in sorted(counters, key=lambda counter: counter.key)
    ]
    statement = insert(AttemptCount).values(rows)
    is_over = table.ends_at < now()
    result = await session.execute(
        statement.on_conflict_do_update(
            index_elements=["key"],
            set_={
                "count": case((is_over, 1), else_=table.count + 1),
                "ends_at": case((is_over, statement.excluded.ends_at), else_=table.ends_at),
            },
        ).returning(AttemptCount.key, AttemptCount.count)
    )
    counts = {row["key"]: row["count"] for row in result.mappings()}
    if any(counts[counter.key] > counter.limit for counter in counters):
        raise TooManyAttempts(ceil(max(c.window for c in counters).total_seconds()))


async def count_link(session: AsyncSession, user_id: int) -> None:
    """Count a message with a link to a user, who must not be locked yet; raises TooManyAttempts."""
    await count_attempt(session, link_counters(account_key(user_id, "")))


async def count_if_possible(session: AsyncSession, counters: Sequence[Counter]) -> bool:
    """Count an attempt, and return whether no counter was full."""
    try:
        await count_attempt(session, counters)
    except TooManyAttempts:
        return False
    return True


async def _require_not_full(session: AsyncSession, counters: Sequence[Counter]) -> None:
    """Raise TooManyAttempts when a counter is full, without a write that would lock its row."""
    limits = {counter.key: counter.limit for counter in counters}
    counts = await queries.list_attempt_counts(session, limits.keys())
    ends_of_full = [ends_at for key, count, ends_at in counts if count >= limits[key]]
    if ends_of_full:
        raise TooManyAttempts(ceil((max(ends_of_full) - now()).total_seconds()))


async def withdraw_attempt(session: AsyncSession, counters: Sequence[Counter]) -> None:
    """Subtract an attempt that was successful, or whose password was not verified."""
    keys = sorted(counter.key for counter in counters)
    await queries.lock_attempt_counts(session, keys)
    await session.execute(
        update(AttemptCount)
        .where(AttemptCount.key.in_(keys))
        .values(count=func.greatest(AttemptCount.count - 1, 0))
    )


async def withdraw_attempt_now(work: Work, counters: Sequence[Counter]) -> None:
    """Subtract an attempt in a transaction of its own, before its error is raised."""
    async with work.begin() as session:
        await see_all_tenants(session)
        await withdraw_attempt(session, counters)


async def delete_expired(session: AsyncSession) -> None:
    """Delete the counts whose window has ended."""
    await session.execute(delete(AttemptCount).where(AttemptCount.ends_at < now()))
