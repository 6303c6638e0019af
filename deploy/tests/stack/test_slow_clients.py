"""Clients that send slowly, ask for other protocols or send nonsense: all others are served.

Beside `test_flood.py`, whose attackers send well-formed guesses.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from deploy.tests.stack.sign_in_attempts import Attempts, Outcome
from deploy.tests.stack.tenancy.scene import Scene
from deploy.tests.stack.test_flood import HOME, WATCHER, founded, get_in

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

SECONDS = 20.0
SLOW_ADDRESSES = [f"127.0.67.{number}" for number in range(1, 51)]
SLOW_BODIES_EACH = 10  # 500 at once
UPGRADING = [f"127.0.68.{number}" for number in range(1, 7)]
FAILING = [f"127.0.69.{number}" for number in range(1, 5)]
PAUSE = 0.25
PATIENCE = 10.0  # seconds after which the victim gives up, and counts it as a failure

LOGIN = b"POST /api/auth/login HTTP/1.1\r\nHost: carnet\r\nContent-Type: application/json\r\n"
HIDDEN = b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: carnet\r\n\r\n"
UPGRADE = (
    LOGIN
    + b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    + b"Content-Length: %d\r\n\r\n" % len(HIDDEN)
)


class Attack:
    """Attackers at work until a moment, and what they were answered."""

    def __init__(self, stack: Stack) -> None:
        parts = urlsplit(stack.address)
        self._place = parts.hostname, parts.port
        self.statuses: Counter[str] = Counter()
        self.unfinished = 0
        self.until = time.monotonic() + SECONDS

    async def run(self) -> None:
        """Let all attackers begin at once."""
        slow = [source for source in SLOW_ADDRESSES for _ in range(SLOW_BODIES_EACH)]
        await asyncio.gather(
            *(self._repeat(self._send_slowly, source) for source in slow),
            *(self._repeat(self._upgrade, source) for source in UPGRADING),
            *(self._repeat(self._send_nonsense, source) for source in FAILING),
        )

    async def _repeat(self, attack: Callable[[str], Awaitable[None]], source: str) -> None:
        while time.monotonic() < self.until:
            try:
                await attack(source)
            except ConnectionError:
                self.statuses["closed"] += 1
            await asyncio.sleep(PAUSE)

    async def _connect(self, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._place, local_addr=(source, 0))

    async def _send_slowly(self, source: str) -> None:
        """A byte each half second, until the gateway answers."""
        reader, writer = await self._connect(source)
        writer.write(LOGIN + b"Content-Length: 1000000\r\n\r\n{")
        self.unfinished += 1
        answer = asyncio.create_task(reader.readline())
        try:
            while not answer.done() and time.monotonic() < self.until:
                writer.write(b" ")
                await asyncio.wait([answer], timeout=0.5)
            if answer.done():
                self._count("slow", await answer)
        finally:
            self.unfinished -= 1
            answer.cancel()
            writer.close()

    async def _upgrade(self, source: str) -> None:
        """A request with `Upgrade` whose body looks like a request, and arrives later."""
        reader, writer = await self._connect(source)
        try:
            writer.write(UPGRADE)
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.write(HIDDEN)
            answer = await reader.read()
        finally:
            writer.close()
        assert answer.count(b"HTTP/1.1 ") == 1, "one request, one answer"
        self._count("upgrade", answer)

    async def _send_nonsense(self, source: str) -> None:
        """Bodies and heads that end in errors, one after the other."""
        unknown = json.dumps({f"key-{number}": number for number in range(200)}).encode()
        for body in (b"{", b"[]" * 100, unknown, b"\xff" * 1000):
            reader, writer = await self._connect(source)
            try:
                length = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
                writer.write(LOGIN + length + body)
                self._count("nonsense", await reader.readline())
                await reader.read()
            finally:
                writer.close()

    def _count(self, kind: str, answer: bytes) -> None:
        self.statuses[f"{kind} {answer.split()[1].decode()}"] += 1


async def test_slow_bodies_upgrades_and_errors(
    scene: Scene, stack: Stack, api: httpx.AsyncClient
) -> None:
    attempts = Attempts(stack.address)
    owner = await founded(scene, api)
    stranger = await founded(scene, api)
    await get_in(attempts, owner)
    attack = Attack(stack)
    attacking = asyncio.create_task(attack.run())
    outcomes: dict[str, list[int]] = {"known": [], "stranger": [], "health": []}
    seconds: list[float] = []
    most = 0
    await asyncio.sleep(2)
    while not attacking.done():
        most = max(most, attack.unfinished)
        fresh = f"127.0.70.{len(seconds) + 1}"
        for name, victim in {
            "known": attempts.sign_in(HOME, owner.email, owner.password),
            "stranger": attempts.sign_in(fresh, stranger.email, stranger.password),
            "health": attempts.health(WATCHER),
        }.items():
            outcomes[name].append(await _status(victim, seconds))
        await asyncio.sleep(0.5)
    await attacking
    print(attack.statuses, most, outcomes, sorted(seconds)[-5:])
    assert most >= 450, "the bodies were there all the time"
    for statuses in outcomes.values():
        assert statuses.count(200) >= 0.9 * len(statuses)
    assert attack.statuses["slow 408"] > 0
    assert not any(kind.endswith(("502", "504")) for kind in attack.statuses)
    await scene.cast.admin.call("GET", "/api/auth/me", expect=200)


async def _status(attempt: Awaitable[Outcome], seconds: list[float]) -> int:
    """How an attempt ended; 0 when nothing came in time."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            outcome = await attempt
    except (TimeoutError, ConnectionError, IndexError):
        return 0
    finally:
        seconds.append(time.monotonic() - began)
    return outcome.status
