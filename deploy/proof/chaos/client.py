"""A careful client: each change has an idempotency key and is repeated until it is answered.

The answers are the history, which the checks compare with all other sources.
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
    """The final response to one action of a user."""

    kind: str
    status: int
    body: Any

    @property
    def succeeded(self) -> bool:
        """Whether the status reports success."""
        return self.status < 300


@dataclass
class History:
    """All responses to clients, and the requests that were never answered."""

    answers: list[ClientAnswer] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)

    def record(self, kind: str, body: Any) -> None:
        """Record an action that is not a request of a client."""
        self.attempts[kind] += 1
        self.answers.append(ClientAnswer(kind, 200, body))

    def of(self, kind: str) -> list[ClientAnswer]:
        """Return the responses of one kind."""
        return [answer for answer in self.answers if answer.kind == kind]

    def successes(self, kind: str) -> list[ClientAnswer]:
        """Return the successful responses of one kind."""
        return [answer for answer in self.of(kind) if answer.succeeded]


class Unanswered(Exception):
    """A request was not answered in time, although it was repeated."""


class Traffic:
    """Sends all requests of all clients. It limits their number and can pause them."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.give_up_at = float("inf")
        self._slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight = 0

    @asynccontextmanager
    async def paused(self, *, seconds: float) -> AsyncIterator[None]:
        """Pause new requests and wait for those in flight. Raises TimeoutError."""
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
        """POST once, with retries, and record the response. Raises Unanswered."""
        key = {"Idempotency-Key": unique(kind)}
        response = await self.until_answered(who, kind, "POST", path, body, key)
        content = response.json() if response.content else None
        answer = ClientAnswer(kind, response.status_code, content)
        self.history.answers.append(answer)
        return answer

    async def until_answered(
        self,
        who: Person,
        kind: str,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Repeat a request until it has a final response; sign in again after a 401."""
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
        """Send a request once; return None if the connection broke and the result is unknown."""
        use_token = who.token is not None and kind != _SIGN_IN
        token = {"Authorization": f"Bearer {who.token}"} if use_token else {}
        async with self._turn():
            self.history.attempts[kind] += 1
            try:
                return await who.api.request(
                    method, path, json=body, headers={**token, **(headers or {})}
                )
            except httpx.HTTPError:
                return None

    async def sign_in(self, who: Person) -> None:
        """Sign in. Raises Unanswered, or KeyError if the credentials are refused."""
        credentials = {"email": who.email, "password": who.password}
        answer = await self.until_answered(who, _SIGN_IN, "POST", "/api/auth/login", credentials)
        who.token = answer.json()["access_token"]
        self.history.answers.append(ClientAnswer(_SIGN_IN, answer.status_code, None))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with self._slots:
            await self._open.wait()
            self._in_flight += 1
            self._idle.clear()
            try:
                yield
            finally:
                self._in_flight -= 1
                if not self._in_flight:
                    self._idle.set()


def _is_final(answer: httpx.Response) -> bool:
    if answer.status_code in _TRY_AGAIN:
        return False
    return not (answer.status_code == 409 and answer.json().get("code") == _IN_PROGRESS)
