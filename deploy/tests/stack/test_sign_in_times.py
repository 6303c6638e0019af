"""How long a refusal takes does not tell whether the account exists."""

import asyncio
import random
import statistics

import bcrypt
import pytest

from deploy.demo.client import unique
from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows
from deploy.tests.stack.sign_in_attempts import Attempts
from deploy.tests.stack.tenancy.scene import Scene

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

TRIES = 40
AT_ONCE = 5
GAP = 0.005  # seconds between the medians
DOUBT = 3  # standard errors that a busy machine may add to it


async def _accounts(scene: Scene, rows: Rows) -> dict[str, str]:
    """Addresses: one that is known, one with a hash of version 1, and one that nobody has."""
    emails = {}
    for kind in ("known", "of version 1"):
        member = await scene.member()
        [user] = await rows("SELECT email FROM identity.users WHERE id = $1", member["user_id"])
        emails[kind] = user["email"]
    hashed = bcrypt.hashpw(b"the password of version 1", bcrypt.gensalt(12)).decode()
    changed = "UPDATE identity.users SET password_hash = $1 WHERE email = $2 RETURNING id"
    assert await rows(changed, hashed, emails["of version 1"])
    return {**emails, "unknown": f"{unique('nobody')}@example.com"}


def _standard_error(took: list[float]) -> float:
    """That of the median, from a thousand samples of the sample; seconds."""
    dice = random.Random(1)
    medians = [statistics.median(dice.choices(took, k=len(took))) for _ in range(1000)]
    return statistics.stdev(medians)


async def test_known_and_unknown_accounts_take_alike(
    scene: Scene, stack: Stack, rows: Rows
) -> None:
    attempts = Attempts(stack.address)
    accounts = await _accounts(scene, rows)
    took: dict[str, list[float]] = {kind: [] for kind in accounts}
    turns = asyncio.Semaphore(AT_ONCE)

    async def round_of(number: int) -> None:
        kinds = random.Random(number).sample(sorted(accounts), len(accounts))
        # Ten guesses at an account from one address, and a hundred from it at all.
        source = f"127.0.77.{1 + number // 8}"
        async with turns:
            for kind in kinds:
                outcome = await attempts.sign_in(source, accounts[kind], "wrong")
                assert outcome.status == 401, (kind, outcome)
                took[kind].append(outcome.seconds)

    await asyncio.gather(*(round_of(number) for number in range(TRIES)))
    medians = {kind: statistics.median(seconds) for kind, seconds in took.items()}
    doubts = {kind: _standard_error(seconds) for kind, seconds in took.items()}
    print(medians, doubts)
    for kind in ("known", "of version 1"):
        allowed = GAP + DOUBT * (doubts[kind] ** 2 + doubts["unknown"] ** 2) ** 0.5
        assert abs(medians[kind] - medians["unknown"]) <= allowed, kind
