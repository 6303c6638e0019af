"""A cancellation is never taken for a broken connection, nor the other way round."""

import asyncio

import pytest

from shared import bus

pytestmark = pytest.mark.anyio


async def test_what_the_library_makes_of_our_cancellation_is_still_one() -> None:
    async def loses_its_connection() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            raise ConnectionError("closed") from error

    async def work() -> None:
        while True:
            try:
                await loses_its_connection()
            except (Exception, asyncio.CancelledError) as error:
                bus.raise_if_cancelled(error)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(1):
        await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancellation_that_nobody_asked_for_is_a_failure_like_others() -> None:
    bus.raise_if_cancelled(asyncio.CancelledError())
    bus.raise_if_cancelled(ConnectionError())
