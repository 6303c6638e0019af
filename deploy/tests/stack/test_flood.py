"""Guesses at passwords, more than can be looked at: the owner gets in, and all else goes on."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from deploy.demo.client import unique
from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from deploy.tests.stack.sign_in_attempts import Attempts, Outcome
from deploy.tests.stack.tenancy.cast import PASSWORD, Caller
from deploy.tests.stack.tenancy.scene import Scene

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

FLOOD_SECONDS = 20.0
# Each waits for its answer, and this long at least, before its next guess: up to 190 a second, of
# which one process of identity can look at 28. A hundred from each before it is throttled.
ATTACKERS = [f"127.0.66.{number}" for number in range(1, 49)]
PAUSE = 0.25
HOME = "127.0.0.2"  # from where the owner has signed in before
WATCHER = "127.0.0.3"

OWNER_SECONDS = 2.0
HEALTH_SECONDS = 0.2
# A machine that is busy with other things slows everything down. So these are allowed too:
TIMES_CALM = 15  # times what the owner needs just before
TIMES_BARE = 5  # times what a server needs at the same moment that does nothing but answer


class Flood:
    """Wrong sign-ins from many addresses at once, for a while."""

    def __init__(self, attempts: Attempts, victim: str) -> None:
        self._attempts = attempts
        self._victim = victim
        self.statuses: Counter[int] = Counter()

    async def run(self, seconds: float) -> None:
        """Every second guess is at the victim's account, the others are at accounts of nobody."""
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._attack(source, until) for source in ATTACKERS))

    async def _attack(self, source: str, until: float) -> None:
        while time.monotonic() < until:
            for email in (self._victim, f"{unique('nobody')}@example.com"):
                outcome = await self._attempts.sign_in(source, email, unique("guess"))
                self.statuses[outcome.status] += 1
                await asyncio.sleep(max(0.0, PAUSE - outcome.seconds))


@asynccontextmanager
async def bare_server() -> AsyncIterator[str]:
    """A server that does nothing but answer: what the machine itself needs at the moment."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def watched(ask: Callable[[], Awaitable[Outcome]], until: asyncio.Task[None]) -> list[float]:
    """Ask again and again until a task ends; the times it took."""
    took = []
    while not until.done():
        outcome = await ask()
        assert outcome.status == 200
        took.append(outcome.seconds)
        await asyncio.sleep(0.04)
    return took


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


async def get_in(attempts: Attempts, owner: Caller) -> float:
    """Sign in as a browser's user does: again when told to try again; the seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(60):
        while True:
            outcome = await attempts.sign_in(HOME, owner.email, owner.password)
            if outcome.status == 200:
                return time.monotonic() - began
            assert outcome.status in (503, 504), "the owner may have to wait, but is not refused"
            await asyncio.sleep(0.2)


async def founded(scene: Scene, api: httpx.AsyncClient) -> Caller:
    """An owner of an organization of one's own: no other test shares the victim's counters."""
    owner = Caller(api=api, name="victim", email=f"{unique('victim')}@example.com")
    body = {
        "name": unique("Attacked"),
        "owner_email": owner.email,
        "owner_name": "Victim",
        "owner_password": PASSWORD,
    }
    await scene.cast.admin.call("POST", "/api/admin/organizations", body, expect=201)
    return owner


async def test_a_flood_of_guesses(scene: Scene, stack: Stack, api: httpx.AsyncClient) -> None:
    attempts = Attempts(stack.address)
    owner = await founded(scene, api)
    calm = statistics.median([await get_in(attempts, owner) for _ in range(3)])
    flood = Flood(attempts, owner.email)
    async with bare_server() as bare:
        flooding = asyncio.create_task(flood.run(FLOOD_SECONDS))
        health = asyncio.create_task(watched(lambda: attempts.health(WATCHER), flooding))
        machine = asyncio.create_task(watched(lambda: Attempts(bare).health(WATCHER), flooding))
        signed_in = []
        await asyncio.sleep(2)
        while not flooding.done():
            signed_in.append(await get_in(attempts, owner))
            await asyncio.sleep(1)
        await flooding
        took = {"health": p99(await health), "machine": p99(await machine)}
    print(took, calm, [round(seconds, 2) for seconds in signed_in], flood.statuses)
    assert set(flood.statuses) <= {401, 429, 503}
    assert flood.statuses[401] >= 50, "identity was at work"
    assert flood.statuses[429] + flood.statuses[503] >= 50, "and had more than it could do"
    assert len(signed_in) >= 3
    assert statistics.median(signed_in) <= max(OWNER_SECONDS, TIMES_CALM * calm)
    assert took["health"] <= max(HEALTH_SECONDS, TIMES_BARE * took["machine"])
