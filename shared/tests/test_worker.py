"""The worker as a process: what it logs when a part of it ends."""

import pytest
from pydantic import SecretStr

from shared.settings import ServiceSettings
from shared.transactions import Transactions
from shared.worker import Timer, Worker, start

pytestmark = pytest.mark.anyio


class Broken(BaseException):
    """No error that anything expects."""


async def test_a_worker_reports_which_part_of_it_ended_and_why(
    settings: ServiceSettings, transactions: Transactions
) -> None:
    async def run() -> None:
        raise Broken

    timers = [Timer("wind_up", 60.0, run)]
    worker = Worker("sample", settings, transactions, listeners=(), timers=timers)
    with pytest.raises(RuntimeError, match="timer wind_up") as caught:
        await worker.run()
    assert isinstance(caught.value.__cause__, Broken)


async def test_a_process_that_would_sign_in_to_the_broker_as_another_does_not_start(
    settings: ServiceSettings, transactions: Transactions
) -> None:
    """All consumers would park its events."""
    for url in ("amqp://carnet:hidden@mq.example/", "amqp://mq.example/"):
        changed = settings.model_copy(update={"rabbitmq_url": SecretStr(url)})
        with pytest.raises(SystemExit, match="SAMPLE_RABBITMQ_URL signs in as") as caught:
            start(Worker("sample", changed, transactions, listeners=()))
        assert "hidden" not in str(caught.value)
