"""More guesses at passwords than can be checked: the owner can sign in, other requests work."""

import asyncio
import statistics
import time
from collections import Counter
from itertools import count

import httpx
import pytest

from deploy.api_client import unique
from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from deploy.tests.stack.sign_in_attempts import Attempts
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

# Guesses that are answered before another user is, not seconds: a machine that is busy with other
# things slows all of them down. Each attacker has one guess under way, so this many are answered
# when all are served in turn.
IN_TURN = len(ATTACKERS)


class Flood:
    """Wrong sign-ins from many addresses at once, for a while."""

    def __init__(self, attempts: Attempts, victim: str) -> None:
        self._attempts = attempts
        self._victim = victim
        self.statuses: Counter[int] = Counter()

    @property
    def answered(self) -> int:
        return self.statuses.total()

    async def run(self, seconds: float) -> None:
        """Every second guess is at the victim's account, the others are at unknown accounts."""
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._attack(source, until) for source in ATTACKERS))

    async def _attack(self, source: str, until: float) -> None:
        while time.monotonic() < until:
            for email in (self._victim, f"{unique('nobody')}@example.com"):
                outcome = await self._attempts.sign_in(source, email, unique("guess"))
                self.statuses[outcome.status] += 1
                await asyncio.sleep(max(0.0, PAUSE - outcome.seconds))


async def let_past(flood: Flood, attempts: Attempts, flooding: asyncio.Task[None]) -> list[int]:
    """Ask for health while it floods; how many guesses were answered before each answer."""
    counts = []
    while not flooding.done():
        before = flood.answered
        assert (await attempts.health(WATCHER)).status == 200
        counts.append(flood.answered - before)
        await asyncio.sleep(0.04)
    return counts


async def get_in(attempts: Attempts, owner: Caller) -> int:
    """Sign in like the user of a browser; return how often the answer was to try again."""
    async with asyncio.timeout(120):
        for times in count():
            outcome = await attempts.sign_in(HOME, owner.email, owner.password)
            if outcome.status == 200:
                return times
            assert outcome.status in (503, 504), "the owner may have to wait, but is not refused"
            await asyncio.sleep(0.2)
    raise AssertionError("it counts for ever")


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
    await get_in(attempts, owner)
    flood = Flood(attempts, owner.email)
    flooding = asyncio.create_task(flood.run(FLOOD_SECONDS))
    watching = asyncio.create_task(let_past(flood, attempts, flooding))
    refused = []
    await asyncio.sleep(2)
    while not flooding.done():
        refused.append(await get_in(attempts, owner))
        await asyncio.sleep(1)
    await flooding
    past_health = statistics.quantiles(await watching, n=100)[98]
    print(flood.statuses, refused, past_health)
    assert set(flood.statuses) <= {401, 429, 503, 504}
    assert flood.statuses[401] > 0, "identity was at work"
    assert flood.statuses[429] + flood.statuses[503] > IN_TURN, "and had more than it could do"
    assert statistics.mean(refused) <= 1, "the owner's places are not the flood's"
    assert past_health <= IN_TURN
