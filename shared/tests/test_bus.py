"""Batches of messages; and a cancellation is never taken for a broken connection."""

import asyncio
import gc
import logging
import warnings

import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError, PublishError
from pydantic import SecretStr
from uuid_utils import uuid7

from shared import bus, lasting_queues
from shared.testing import until

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
    async with asyncio.timeout(30):
        await asyncio.wait([task])
    assert task.cancelled()


async def test_an_unrequested_cancellation_is_a_failure_like_others() -> None:
    bus.raise_if_cancelled(asyncio.CancelledError())
    bus.raise_if_cancelled(ConnectionError())


async def test_of_a_batch_each_message_has_its_own_outcome(channel: AbstractChannel) -> None:
    queue = await lasting_queues.declare_lasting_queue(
        channel, f"sample.test.{uuid7()}", ["sample.known"], seconds=60
    )
    bodies = [b"first", b"", b"x" * 300_000, b"last"]
    known = [bus.Outgoing("sample.known", str(n), body, "sample") for n, body in enumerate(bodies)]
    for _ in range(2):
        astray = bus.Outgoing("sample.unknown", "astray", b"to nobody", "sample")
        outcomes = await bus.publish_all(channel, [*known[:2], astray, *known[2:]])
        assert [type(outcome) for outcome in outcomes if outcome] == [PublishError]
        assert isinstance(outcomes[2], PublishError)
        for message in known:
            got = await queue.get(no_ack=True)
            assert (got.body, got.message_id) == (message.body, message.message_id)
            assert got.delivery_mode == 2
        await bus.publish(
            channel.default_exchange,
            queue.name,
            bus.persistent_message(b"alone", "5", user="sample"),
        )
        assert (await queue.get(no_ack=True)).body == b"alone"
    assert await bus.publish_all(channel, []) == []
    await queue.delete(if_unused=False, if_empty=False)


async def test_a_closed_channel_takes_no_batch(channel: AbstractChannel) -> None:
    await channel.close()
    with pytest.raises((AMQPError, RuntimeError)):
        await bus.publish_all(channel, [bus.Outgoing("sample.known", "1", b"too late", "sample")])


def test_a_connection_that_was_refused_is_garbage_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def connect() -> OSError | None:
        try:
            async with bus.connected("amqp://127.0.0.1:1/", name="test"):
                return None
        except OSError as error:
            return error

    caplog.set_level(logging.CRITICAL, logger="aiormq")  # or pytest keeps it with a log record
    asyncio.set_event_loop(None)
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    with runner, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        refused = runner.run(connect())
        assert refused is not None
        del refused  # with its traceback goes the connection, while no loop runs
        gc.collect()
    assert [str(warning.message) for warning in told] == []


async def test_a_lasting_queue_keeps_what_arrives_between_two_connections(
    rabbitmq_url: SecretStr,
) -> None:
    name = f"sample.test.{uuid7()}"
    messages: asyncio.Queue[lasting_queues.LastingMessage] = asyncio.Queue()
    async with bus.connected(rabbitmq_url, name="test") as publisher:
        channel = await publisher.channel()
        exchange = await bus.events_exchange(channel)
        for number in ("1", "2"):
            async with bus.connected(rabbitmq_url, name="test") as connection:
                queue = await lasting_queues.consume_lasting_queue(
                    connection, name, ["sample.lasting"], messages.put_nowait, seconds=60
                )
                await until(queue.is_drained)
                if number == "2":
                    async with asyncio.timeout(30):
                        message = await messages.get()
                    assert (message.id, message.routing_key) == ("1", "sample.lasting")
                    assert (message.user, message.body) == ("sample", b"body 1")
                    assert message.headers["x"] == 1
            sent = bus.persistent_message(
                b"body %b" % number.encode(), number, {"x": 1}, user="sample"
            )
            await bus.publish(exchange, "sample.lasting", sent)
        state = await channel.declare_queue(name, passive=True)
        assert state.declaration_result.message_count == 1, "the first message is acknowledged"
        await channel.queue_delete(name)
