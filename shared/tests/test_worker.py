"""The worker as a process: what it says when a part of it ends."""

import pytest

from shared.settings import ServiceSettings
from shared.transactions import Transactions
from shared.worker import Timer, Worker

pytestmark = pytest.mark.anyio


class Broken(BaseException):
    """No error that anything expects."""


async def test_a_worker_says_which_part_of_it_ended_and_why(
    settings: ServiceSettings, transactions: Transactions
) -> None:
    async def run() -> None:
        raise Broken

    timers = [Timer("wind_up", 60.0, run)]
    worker = Worker("sample", settings, transactions, listeners=(), timers=timers)
    with pytest.raises(RuntimeError, match="timer wind_up") as caught:
        await worker.run()
    assert isinstance(caught.value.__cause__, Broken)
