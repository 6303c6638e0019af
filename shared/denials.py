"""Denials: requests that a caller was not authorized to make become rows of the audit trail.

A denied request's transaction is rolled back, so the row cannot be written there. The denial is
counted in memory, which cannot fail or wait, and a task writes the counts of a minute in a
transaction of its own: one event for each actor, route and minute, whatever the count. Memory is
bounded: in a flood, denials beyond the bound are counted together.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypedDict

import structlog
from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from shared.actors import Actor
from shared.changes import record_fact
from shared.context import ANONYMOUS, Origin, request_origin, system_origin
from shared.db import now
from shared.errors import AppError
from shared.shapes import Shape, fact
from shared.tenancy import EVERYTHING
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

ENTITY_TYPE, ACTION = "request", "DENIED"

MAX_KINDS = 1000
"""How many rows one minute has at most for callers with a token, and as many for those without one;
the other callers share one row per route."""

MAX_MINUTES = 10
"""How many minutes may wait during an outage of the database. Denials after that are lost, and only
their number is logged."""

EVERY = 5.0
"""Seconds between two checks for minutes that have ended."""

LAST_WRITE = 3.0
"""Seconds for writing the remaining rows when the process ends."""

_ID = re.compile(r"[1-9][0-9]{0,11}")
"""An id in a path, which is safe to store. Other parts of a denied path may be any text."""


class DenialDetails(TypedDict):
    """What was denied, how often within the minute, and the ids in the path of the last request.

    `refusal` is the error's code and `reason` its detail. `user_id` is the account that the denial
    is about, if that is not the actor: the account of a throttled sign-in. `others` is true for a
    row of callers who are not named individually.
    """

    method: str
    route: str
    refusal: str
    reason: str
    count: int
    first_at: str
    last_at: str
    path_ids: dict[str, int]
    user_id: int | None
    others: bool


SHAPE: Shape = fact(DenialDetails)
"""The published shape of every service's denials."""


DeniedCaller = tuple[int | None, str | None]
"""A user's id; or None with the name of a service, or with the address of an anonymous client."""

DenialKey = tuple[DeniedCaller, str, str, str, int | None]
"""The caller, the method, the route's template, the error's code, and the account it is about."""

_OTHERS: DeniedCaller = (None, None)


@dataclass(slots=True)
class _DenialCount:
    """The denials of one caller, route and minute."""

    origin: Origin
    organization_id: int | None
    reason: str
    first_at: datetime
    last_at: datetime
    path_ids: dict[str, int] = field(default_factory=dict)
    others: bool = False
    count: int = 0


@dataclass(slots=True)
class _Minute:
    """The denials of one minute, of callers with a verified token and of callers without one.

    Each group has a bound of its own: an anonymous client with thousands of addresses must not be
    able to fill the places of users.
    """

    recognized: dict[DenialKey, _DenialCount] = field(default_factory=dict)
    anonymous: dict[DenialKey, _DenialCount] = field(default_factory=dict)

    def group_of(self, origin: Origin) -> dict[DenialKey, _DenialCount]:
        """Return the group in which denials of an origin are row."""
        return self.anonymous if origin.role == ANONYMOUS else self.recognized

    def rows(self) -> list[tuple[DenialKey, _DenialCount]]:
        """Return the denials of both groups."""
        return [*self.recognized.items(), *self.anonymous.items()]


class Denials:
    """Counts the denials of a process and writes them. Tests replace `clock`."""

    def __init__(self, transactions: Transactions, clock: Callable[[], datetime] = now) -> None:
        self._transactions = transactions
        self._clock = clock
        self._minutes: dict[datetime, _Minute] = {}
        self._dropped = 0

    def count(self, request: Request, error: AppError) -> None:
        """Count an error if it is a denial. Never raises and never waits."""
        if not error.denies:
            return
        try:
            self._count(request, error)
        except Exception as failure:
            log.error("denial_not_counted", exc_info=failure)

    def _count(self, request: Request, error: AppError) -> None:
        moment = self._clock()
        caller, origin, organization_id = _caller_of(request, error)
        route = getattr(request.scope.get("route"), "path", "unmatched")
        key: DenialKey = (caller, request.method, route, error.code(), error.about_user_id)
        new = _DenialCount(origin, organization_id, error.detail, moment, moment)
        row = self._row_for(moment.replace(second=0, microsecond=0), key, new)
        if row is None:
            self._dropped += 1
            return
        row.count += 1
        row.last_at = moment
        if not row.others:
            row.path_ids = {
                name: int(text)
                for name, text in request.path_params.items()
                if _ID.fullmatch(str(text)) is not None
            }

    def _row_for(self, minute: datetime, key: DenialKey, new: _DenialCount) -> _DenialCount | None:
        """Return the row in which a denial is counted: its own, or the common one of a full minute.

        None when too many minutes wait for the database.
        """
        if minute not in self._minutes and len(self._minutes) >= MAX_MINUTES:
            return None
        rows = self._minutes.setdefault(minute, _Minute()).group_of(new.origin)
        if key not in rows and len(rows) >= MAX_KINDS:
            key = (_OTHERS, *key[1:4], None)
            new = replace(new, origin=system_origin(), organization_id=None, others=True)
        return rows.setdefault(key, new)

    async def write(self, *, everything: bool = False) -> None:
        """Write the rows of the minutes that have ended, or all rows.

        Each minute has a transaction of its own, so that the event loop is not blocked for the rows
        of all of them. Rows that cannot be written remain. Raises the database's errors.
        """
        this_minute = self._clock().replace(second=0, microsecond=0)
        due = [minute for minute in self._minutes if everything or minute < this_minute]
        for minute in due:
            async with self._transactions.begin(system_origin(), EVERYTHING) as session:
                for key, row in self._minutes[minute].rows():
                    record_denial(session, key, row)
            del self._minutes[minute]
        if due and self._dropped:
            log.error("denials_dropped", count=self._dropped)
            self._dropped = 0

    @property
    def waiting(self) -> int:
        """Return how many rows are not written yet."""
        return sum(len(minute.rows()) for minute in self._minutes.values())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write minute by minute while the block runs, and the remaining rows at its end."""
        task = asyncio.create_task(self._write_repeatedly(), name="denials")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            try:
                async with asyncio.timeout(LAST_WRITE):
                    await self.write(everything=True)
            except Exception as error:
                log.error("denials_lost", count=self.waiting, exc_info=error)

    async def _write_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.write()
            except Exception as error:
                log.warning("denials_wait", count=self.waiting, cause=repr(error))


def record_denial(session: AsyncSession, key: DenialKey, row: _DenialCount) -> None:
    """Record one row as an event that changes no entity."""
    _, method, route, refusal, about_user_id = key
    details = DenialDetails(
        method=method,
        route=route,
        refusal=refusal,
        reason=row.reason,
        count=row.count,
        first_at=row.first_at.isoformat(),
        last_at=row.last_at.isoformat(),
        path_ids=row.path_ids,
        user_id=about_user_id,
        others=row.others,
    )
    record_fact(
        session,
        ACTION,
        ENTITY_TYPE,
        organization_id=row.organization_id,
        details={**details},
        origin=row.origin,
    )


def _caller_of(request: Request, error: AppError) -> tuple[DeniedCaller, Origin, int | None]:
    """Return the caller, the origin, and the organization whose audit trail shows the denial."""
    origin = request_origin(request)
    actor: Actor | None = getattr(request.state, "actor", None)
    if actor is not None:
        origin = origin.acting(actor.user_id, actor.role)
        return (actor.user_id, None), origin, actor.organization_id
    service: str | None = getattr(request.state, "calling_service", None)
    if service is not None:
        return (None, service), replace(origin, role=service), None
    return (None, origin.ip_address), origin, error.about_organization_id
