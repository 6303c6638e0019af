"""A careful client: each change has a key, and is repeated with it until there is an answer.

What it was told is the history that the checker holds against everything else.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from deploy.api_client import Person, unique

REQUESTS_AT_ONCE = 12
PAUSE_SECONDS = 0.5
_SIGN_IN = "sign-in"
_IN_PROGRESS = "request_in_progress"
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True)
class ClientAnswer:
    """The final answer to one thing that somebody did."""

    kind: str
    status: int
    body: Any

    @property
    def done(self) -> bool:
        """Say whether it was done, as far as its client was told."""
        return self.status < 300


@dataclass
class History:
    """Everything that clients were told, and what they gave up on."""

    told: list[ClientAnswer] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)

    def note(self, kind: str, body: Any) -> None:
        """Note what happened outside, and was not asked for by a request."""
        self.attempts[kind] += 1
        self.told.append(ClientAnswer(kind, 200, body))

    def of(self, kind: str) -> list[ClientAnswer]:
        """Return what was told of things of one kind."""
        return [told for told in self.told if told.kind == kind]

    def done(self, kind: str) -> list[ClientAnswer]:
        """Return what was told to be done of one kind."""
        return [told for told in self.of(kind) if told.done]


class Unanswered(Exception):
    """Nobody answered in time, however often it was tried."""


class Traffic:
    """All requests of all clients: bounded in number, and to be held back for a moment."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.give_up_at = float("inf")
        self._places = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._under_way = 0

    @asynccontextmanager
    async def held(self, *, seconds: float) -> AsyncIterator[None]:
        """Hold back new requests, and wait for those under way. Raises TimeoutError."""
        self._open.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
            yield
        finally:
            self._open.set()

    async def post(
        self, who: Person, kind: str, path: str, body: dict[str, Any] | None = None
    ) -> ClientAnswer:
        """Do something, once, and note what came of it. Raises Unanswered."""
        key = {"Idempotency-Key": unique(kind)}
        return self._note(kind, await self.until_answered(who, kind, "POST", path, body, key))

    def _note(self, kind: str, answer: httpx.Response) -> ClientAnswer:
        told = ClientAnswer(kind, answer.status_code, answer.json() if answer.content else None)
        self.history.told.append(told)
        return told

    async def until_answered(
        self,
        who: Person,
        kind: str,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request until there is a final answer; sign in again when that is asked for."""
        while time.monotonic() < self.give_up_at:
            answer = await self.once(who, kind, method, path, body, headers)
            if answer is not None and answer.status_code == 401 and kind != _SIGN_IN:
                await self.sign_in(who)
            elif answer is not None and _is_final(answer):
                return answer
            else:
                await asyncio.sleep(PAUSE_SECONDS)
        self.history.unanswered.append(f"{kind}: {method} {path}")
        raise Unanswered(kind)

    async def once(
        self,
        who: Person,
        kind: str,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response | None:
        """Send a request; None when the connection broke, and whether it was done is unknown."""
        signed_in = who.token is not None and kind != _SIGN_IN
        token = {"Authorization": f"Bearer {who.token}"} if signed_in else {}
        async with self._turn():
            self.history.attempts[kind] += 1
            try:
                return await who.api.request(
                    method, path, json=body, headers={**token, **(headers or {})}
                )
            except httpx.HTTPError:
                return None

    async def sign_in(self, who: Person) -> None:
        """Sign in. Raises Unanswered, and KeyError when the credentials are refused."""
        credentials = {"email": who.email, "password": who.password}
        answer = await self.until_answered(who, _SIGN_IN, "POST", "/api/auth/login", credentials)
        who.token = answer.json()["access_token"]
        self.history.told.append(ClientAnswer(_SIGN_IN, answer.status_code, None))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with self._places:
            await self._open.wait()
            self._under_way += 1
            self._idle.clear()
            try:
                yield
            finally:
                self._under_way -= 1
                if not self._under_way:
                    self._idle.set()


def _is_final(answer: httpx.Response) -> bool:
    if answer.status_code in _TRY_AGAIN:
        return False
    return not (answer.status_code == 409 and answer.json().get("code") == _IN_PROGRESS)
