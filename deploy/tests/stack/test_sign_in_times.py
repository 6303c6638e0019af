"""The time of a refusal does not reveal whether the account exists."""

import asyncio
import random
import statistics

import bcrypt
import pytest

from deploy.api_client import unique
from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows
from deploy.tests.stack.sign_in_attempts import Attempts
from deploy.tests.stack.tenancy.scene import Scene

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

TRIES = 40
AT_ONCE = 5
LEAST = 0.49  # seconds: no refusal comes before the end of the first unit, half a second
GAP = 0.005  # seconds that tell nothing
LEAD = 26
"""How many more times one of two may be the slower one: a busy machine delays either of them, as a
coin falls, and four standard deviations of forty throws are 25."""


async def _accounts(scene: Scene, rows: Rows) -> dict[str, str]:
    """Addresses: of a user, of a user with a hash of version 1, and of no user."""
    emails = {}
    for kind in ("known", "of version 1"):
        member = await scene.member()
        [user] = await rows("SELECT email FROM identity.users WHERE id = $1", member["user_id"])
        emails[kind] = user["email"]
    hashed = bcrypt.hashpw(b"the password of version 1", bcrypt.gensalt(12)).decode()
    changed = "UPDATE identity.users SET password_hash = $1 WHERE email = $2 RETURNING id"
    assert await rows(changed, hashed, emails["of version 1"])
    return {**emails, "unknown": f"{unique('nobody')}@example.com"}


async def _refused(attempts: Attempts, source: str, email: str) -> float:
    """Sign in with a wrong password, repeat if asked to; return the seconds until the refusal."""
    while (outcome := await attempts.sign_in(source, email, "wrong")).status == 503:
        await asyncio.sleep(0.2)
    assert outcome.status == 401, (email, outcome)
    return outcome.seconds


def _slower(rounds: list[dict[str, float]], kind: str, than: str) -> int:
    return sum(took[kind] > took[than] + GAP for took in rounds)


async def test_known_and_unknown_accounts_take_alike(
    scene: Scene, stack: Stack, rows: Rows
) -> None:
    attempts = Attempts(stack.address)
    accounts = await _accounts(scene, rows)
    rounds: list[dict[str, float]] = []
    turns = asyncio.Semaphore(AT_ONCE)

    async def round_of(number: int) -> None:
        kinds = random.Random(number).sample(sorted(accounts), len(accounts))
        # Ten guesses at an account from one address, and a hundred from it at all.
        source = f"127.0.77.{1 + number // 8}"
        async with turns:
            took = {kind: await _refused(attempts, source, accounts[kind]) for kind in kinds}
        rounds.append(took)

    await asyncio.gather(*(round_of(number) for number in range(TRIES)))
    print({kind: statistics.median(took[kind] for took in rounds) for kind in accounts})
    assert all(seconds > LEAST for took in rounds for seconds in took.values())
    for kind in ("known", "of version 1"):
        lead = _slower(rounds, kind, "unknown") - _slower(rounds, "unknown", kind)
        assert abs(lead) <= LEAD, kind
