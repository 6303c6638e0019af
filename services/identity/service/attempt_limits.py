"""Throttling of attempts, counted in PostgreSQL so that all instances count together.

An attempt is counted before the password is looked at, so that many at once do not slip through,
and the count is given back when it succeeds. Three counters hold a stranger back: account and
address together, the account from everywhere, and the address for every account. Whoever signed in
before, from this device or address, has other counters and none of these three: a flood against an
account from elsewhere does not keep its owner out. All devices of an account share one counter,
and all its addresses another: collecting them brings no more attempts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.errors import TooManyAttempts
from services.identity.models import AttemptCount
from shared.db import now
from shared.tenancy import EVERYTHING
from shared.text import fold
from shared.work import Work

WINDOW = timedelta(minutes=15)
PER_ACCOUNT_AND_ADDRESS = 10
PER_ACCOUNT = 100
PER_ADDRESS = 100
PER_KNOWN_DEVICE = 20
PER_USER_PASSWORD_CHANGE = 10


@dataclass(frozen=True, slots=True)
class Counter:
    """What is counted under one key, and how much of it a window allows."""

    name: str
    limit: int
    window: timedelta = WINDOW

    @property
    def key(self) -> bytes:
        """Return the key; hashed, because what people type as their address is theirs."""
        return hashlib.sha256(self.name.encode(errors="replace")).digest()


def account_key(user_id: int | None, email: str) -> str:
    """Return by what an account is counted: its user's id, or without one the address, folded."""
    return f"user {user_id}" if user_id is not None else f"address {fold(email)}"


def unknown_client_counters(account: str, network: str) -> list[Counter]:
    """Return the counters of a sign-in from where the account is not known."""
    return [
        Counter(f"account and address\n{account}\n{network}", PER_ACCOUNT_AND_ADDRESS),
        Counter(f"account\n{account}", PER_ACCOUNT),
        Counter(f"address\n{network}", PER_ADDRESS),
    ]


def known_device_counters(account: str, since: datetime | None) -> list[Counter]:
    """Return the counter of sign-ins from devices that know the password set at an instant."""
    return [Counter(f"known devices\n{account}\n{since}", PER_KNOWN_DEVICE)]


def known_network_counters(account: str, since: datetime | None, network: str) -> list[Counter]:
    """Return the counters of a sign-in from an address where the account is known."""
    return [
        Counter(f"known address\n{account}\n{since}\n{network}", PER_KNOWN_DEVICE),
        Counter(f"known addresses\n{account}\n{since}", PER_ACCOUNT),
    ]


def registration_counters(network: str, limit: int) -> list[Counter]:
    """Return the counter of registrations from an address."""
    return [Counter(f"registrations\n{network}", limit, timedelta(hours=1))]


def password_change_counters(user_id: int) -> list[Counter]:
    """Return the counter of a signed-in user's wrong present passwords."""
    return [Counter(f"password change\n{user_id}", PER_USER_PASSWORD_CHANGE)]


async def count_attempt(session: AsyncSession, counters: Sequence[Counter]) -> None:
    """Count an attempt under each counter; raises TooManyAttempts, then nothing is counted."""
    await _refuse_when_full(session, counters)
    table = AttemptCount.__table__.c
    rows = [
        {"key": counter.key, "count": 1, "ends_at": now() + counter.window}
        # Always in one order: two attempts that share counters must not wait for each other.
        for counter in sorted(counters, key=lambda counter: counter.key)
    ]
    statement = insert(AttemptCount).values(rows)
    over = table.ends_at < now()
    counted = await session.execute(
        statement.on_conflict_do_update(
            index_elements=["key"],
            set_={
                "count": case((over, 1), else_=table.count + 1),
                "ends_at": case((over, statement.excluded.ends_at), else_=table.ends_at),
            },
        ).returning(AttemptCount.key, AttemptCount.count)
    )
    counts = {row["key"]: row["count"] for row in counted.mappings()}
    if any(counts[counter.key] > counter.limit for counter in counters):
        raise TooManyAttempts(ceil(max(c.window for c in counters).total_seconds()))


async def _refuse_when_full(session: AsyncSession, counters: Sequence[Counter]) -> None:
    limits = {counter.key: counter.limit for counter in counters}
    statement = select(AttemptCount.key, AttemptCount.count, AttemptCount.ends_at).where(
        AttemptCount.key.in_(limits), AttemptCount.ends_at > now()
    )
    full = [ends for key, count, ends in await session.execute(statement) if count >= limits[key]]
    if full:
        raise TooManyAttempts(ceil((max(full) - now()).total_seconds()))


async def withdraw_attempt(session: AsyncSession, counters: Sequence[Counter]) -> None:
    """Take an attempt back: it was none against the account."""
    keys = sorted(counter.key for counter in counters)
    locked = select(AttemptCount.key).where(AttemptCount.key.in_(keys)).order_by(AttemptCount.key)
    await session.execute(locked.with_for_update())
    await session.execute(
        update(AttemptCount)
        .where(AttemptCount.key.in_(keys))
        .values(count=func.greatest(AttemptCount.count - 1, 0))
    )


async def withdraw_attempt_now(work: Work, counters: Sequence[Counter]) -> None:
    """Take an attempt back in a transaction of its own, before its error leaves."""
    async with work.begin(EVERYTHING) as session:
        await withdraw_attempt(session, counters)


async def delete_expired(session: AsyncSession) -> None:
    """Drop the counts whose window is over."""
    await session.execute(delete(AttemptCount).where(AttemptCount.ends_at < now()))
