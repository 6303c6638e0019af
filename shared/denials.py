"""Refusals that an auditor must see: what somebody was not allowed to do becomes an audit row.

The refused request's transaction is rolled back, so its row cannot be written there. The refusal is
counted in memory, which cannot fail or wait, and a task writes what a minute has counted in a
transaction of its own: one event for each actor, route and minute, however many refusals there
were. Memory is bounded: in a flood, refusals beyond the bound are counted together.
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
from shared.changes import note
from shared.context import ANONYMOUS, Origin, request_origin, system_origin
from shared.db import now
from shared.errors import AppError
from shared.shapes import Shape, fact
from shared.tenancy import EVERYTHING
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

ENTITY_TYPE, ACTION = "request", "DENIED"

MAX_KINDS = 1000
"""How many actors and routes are told apart in one minute, of those with a token and of those
without one; the rest share one row per route."""

MAX_MINUTES = 10
"""How many minutes may wait for the database, if it is away. Refusals after that are lost, and only
their number is logged."""

EVERY = 5.0
"""Seconds between two checks for a minute that is over."""

LAST_WRITE = 3.0
"""Seconds for writing what is left when the process ends."""

_ID = re.compile(r"[1-9][0-9]{0,11}")
"""The ids of a path, which are safe to keep: other text of a refused path may be anything."""


class Denied(TypedDict):
    """What was refused, how often within the minute, and the ids in the path of the last one.

    `refusal` is the error's code and `reason` its sentence. `user_id` is the account that the
    refusal is about, where that is not the actor: the account of a throttled sign-in. `others` says
    that the row stands for actors who are not named one by one.
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


SHAPE: Shape = fact(Denied)
"""The published shape of every service's denials."""


Who = tuple[int | None, str | None]
"""The actor's user id; or a calling service's name, or the address of who is not signed in."""

Key = tuple[Who, str, str, str, int | None]
"""Who, the method, the route's template, the error's code, and the account that it is about."""

_OTHERS: Who = (None, None)


@dataclass(slots=True)
class _Counted:
    """The refusals of one actor, route and minute."""

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
    """The refusals of one minute, of callers with a verified token and of callers without one.

    Each group has a bound of its own: anybody can be refused from thousands of addresses, and must
    not be able to take the name from the row of a user.
    """

    recognized: dict[Key, _Counted] = field(default_factory=dict)
    anonymous: dict[Key, _Counted] = field(default_factory=dict)

    def group_of(self, origin: Origin) -> dict[Key, _Counted]:
        """Return the refusals among which those of an origin are counted."""
        return self.anonymous if origin.role == ANONYMOUS else self.recognized

    def rows(self) -> list[tuple[Key, _Counted]]:
        """Return all refusals."""
        return [*self.recognized.items(), *self.anonymous.items()]


class Denials:
    """Counts a process's refusals and writes them; `clock` is replaced in tests."""

    def __init__(self, transactions: Transactions, clock: Callable[[], datetime] = now) -> None:
        self._transactions = transactions
        self._clock = clock
        self._minutes: dict[datetime, _Minute] = {}
        self._dropped = 0

    def count(self, request: Request, error: AppError) -> None:
        """Count a refusal, if it is one that auditors must see. Never raises and never waits."""
        if not error.denies:
            return
        try:
            self._count(request, error)
        except Exception as failure:
            log.error("denial_not_counted", exc_info=failure)

    def _count(self, request: Request, error: AppError) -> None:
        moment = self._clock()
        who, origin, organization_id = _actor_of(request, error)
        route = getattr(request.scope.get("route"), "path", "unmatched")
        key: Key = (who, request.method, route, error.code(), error.about_user_id)
        new = _Counted(origin, organization_id, error.detail, moment, moment)
        counted = self._place(moment.replace(second=0, microsecond=0), key, new)
        if counted is None:
            self._dropped += 1
            return
        counted.count += 1
        counted.last_at = moment
        if not counted.others:
            counted.path_ids = _path_ids(request)

    def _place(self, minute: datetime, key: Key, new: _Counted) -> _Counted | None:
        """Return where a refusal is counted: by itself, or with others when there are too many.

        None when too many minutes wait already.
        """
        if minute not in self._minutes and len(self._minutes) >= MAX_MINUTES:
            return None
        places = self._minutes.setdefault(minute, _Minute()).group_of(new.origin)
        if key not in places and len(places) >= MAX_KINDS:
            key = (_OTHERS, *key[1:4], None)
            new = replace(new, origin=system_origin(), organization_id=None, others=True)
        return places.setdefault(key, new)

    async def write(self, *, everything: bool = False) -> None:
        """Write what the minutes that are over have counted, or everything.

        Each minute has a transaction of its own, so that the event loop is not blocked for the rows
        of all of them. What cannot be written stays counted. Raises what the database raises.
        """
        this_minute = self._clock().replace(second=0, microsecond=0)
        due = [minute for minute in self._minutes if everything or minute < this_minute]
        for minute in due:
            async with self._transactions.begin(system_origin(), EVERYTHING) as session:
                for key, counted in self._minutes[minute].rows():
                    _note(session, key, counted)
            del self._minutes[minute]
        if due and self._dropped:
            log.error("denials_dropped", count=self._dropped)
            self._dropped = 0

    @property
    def waiting(self) -> int:
        """Return how many rows are still to be written."""
        return sum(len(minute.rows()) for minute in self._minutes.values())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write minute by minute while the block runs, and what is left at its end."""
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


def _note(session: AsyncSession, key: Key, counted: _Counted) -> None:
    _, method, route, refusal, about_user_id = key
    details = Denied(
        method=method,
        route=route,
        refusal=refusal,
        reason=counted.reason,
        count=counted.count,
        first_at=counted.first_at.isoformat(),
        last_at=counted.last_at.isoformat(),
        path_ids=counted.path_ids,
        user_id=about_user_id,
        others=counted.others,
    )
    note(
        session,
        ACTION,
        ENTITY_TYPE,
        organization_id=counted.organization_id,
        details={**details},
        origin=counted.origin,
    )


def _actor_of(request: Request, error: AppError) -> tuple[Who, Origin, int | None]:
    """Return who was refused: by the token's user, a calling service's name, or the address."""
    origin = request_origin(request)
    actor: Actor | None = getattr(request.state, "actor", None)
    if actor is not None:
        acting = origin.acting(actor.user_id, actor.role)
        return (actor.user_id, None), acting, actor.organization_id
    service: str | None = getattr(request.state, "calling_service", None)
    if service is not None:
        return (None, service), replace(origin, role=service), None
    return (None, origin.ip_address), origin, error.about_organization_id


def _path_ids(request: Request) -> dict[str, int]:
    return {
        name: int(text)
        for name, text in request.path_params.items()
        if _ID.fullmatch(str(text)) is not None
    }
