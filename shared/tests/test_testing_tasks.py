"""What a failed test started has ended before its fixtures are torn down."""

import asyncio

import pytest

from shared.testing_tasks import ending_its_tasks

pytestmark = pytest.mark.anyio


class Failure(Exception):
    """What ends a test in the middle."""


async def _fail() -> None:
    raise Failure


async def test_a_failed_test_waits_for_its_tasks() -> None:
    ended = []

    async def slow() -> None:
        await asyncio.sleep(0.05)
        ended.append("slow")

    async def test() -> None:
        await asyncio.gather(_fail(), slow())

    with pytest.raises(Failure):
        await ending_its_tasks(test)()
    assert ended == ["slow"]


async def test_a_task_without_an_end_is_cancelled() -> None:
    started: list[asyncio.Task[None]] = []

    async def endless() -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        started.append(asyncio.ensure_future(endless()))
        await _fail()

    with pytest.raises(Failure):
        await ending_its_tasks(test, seconds=0.05)()
    assert started[0].cancelled()
