"""The publisher of a message: one that its user may not publish is parked and counted."""

import logging
import secrets
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel
from prometheus_client import REGISTRY
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared import bus
from shared.broker_access import broker_url
from shared.events import Event
from shared.failed_messages import ATTEMPTS_HEADER, ERROR_HEADER
from shared.publishers import PUBLISHER_HEADER
from shared.testing import Database, until
from shared.tests.messages import QUEUE, event, forget_queues, running, send, waiting
from shared.tests.test_consumer import Effects, consumer, ids, queue
from shared.transactions import Transactions

__all__ = ["queue"]

pytestmark = pytest.mark.anyio


async def _drained(channel: AbstractChannel, database: Database, count: int) -> bool:
    return len(await ids(database)) >= count and await waiting(channel, QUEUE.name) == 0


async def _parked(channel: AbstractChannel) -> bool:
    return await _holds_dead(channel, 1)


async def send_as(channel: AbstractChannel, user: str | None, one: Event, **headers: Any) -> None:
    """Publish an event in the name of any user, or of none, as only an administrator may."""
    message = bus.persistent_message(one.model_dump_json().encode(), one.id, headers, user="sample")
    message.user_id = user
    await bus.publish(await bus.events_exchange(channel), "sample.thing.updated.v1", message)


def _forged() -> float:
    return REGISTRY.get_sample_value("carnet_messages_forged_total", {"queue": QUEUE.name}) or 0.0


PAYMENT = {"type": "payments.payment.succeeded.v1", "source": "carnet/payments"}


@pytest.mark.parametrize(
    ("user", "changes"),
    [
        ("vouchers", {}),
        ("gateway", {}),
        (None, {}),
        ("sample", {"source": "carnet/payments"}),
        ("payments", PAYMENT),
        ("operator", {}),
    ],
)
async def test_an_event_that_is_not_its_publishers_is_parked_and_alarmed_of(
    queue: AbstractChannel,
    database: Database,
    transactions: Transactions,
    sample_url: SecretStr,
    user: str | None,
    changes: dict[str, Any],
) -> None:
    """The user, the type, the source or the routing key does not fit the event."""
    bad, good = event(1).model_copy(update=changes), event(2)
    forged = _forged()
    await send_as(queue, user, bad)
    await send(queue, good)
    with capture_logs() as logged:
        async with running(consumer(Effects(), transactions, sample_url)):
            await until(lambda: _parked(queue))
            await until(lambda: _drained(queue, database, 1))
    assert await ids(database) == [2]
    assert _forged() == forged + 1
    [alarm] = [entry for entry in logged if entry["event"] == "message_forged"]
    assert (alarm["log_level"], alarm["event_id"], alarm["user"]) == ("critical", bad.id, user)
    dead = await (await queue.get_queue(QUEUE.dead)).get(timeout=5, no_ack=True)
    assert dead is not None
    assert dead.user_id == "sample"
    assert dead.headers[PUBLISHER_HEADER] == (user or "")
    assert str(dead.headers[ERROR_HEADER]).startswith("ForgedMessage: ")


async def test_whose_a_message_was_is_believed_of_its_own_service_and_the_operator_alone(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    of_payments = [event(number).model_copy(update=PAYMENT) for number in range(4)]
    for one, user in zip(of_payments, ("sample", "operator", "vouchers", "gateway"), strict=True):
        await send_as(queue, user, one, **{PUBLISHER_HEADER: "payments"})
    async with running(consumer(Effects(), transactions, sample_url)):
        await until(lambda: _drained(queue, database, 2))
        await until(lambda: _holds_dead(queue, 2))
    assert await ids(database) == [0, 1]


async def _holds_dead(channel: AbstractChannel, count: int) -> bool:
    return await waiting(channel, QUEUE.dead) == count


async def test_a_retried_message_stays_its_publishers(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    """It comes back by the broker's own hand, and the copy is the consumer's."""
    poison = event(1, poison="arsenic").model_copy(update=PAYMENT)
    message = bus.persistent_message(poison.model_dump_json().encode(), poison.id, user="payments")
    own = await queue.get_queue(QUEUE.name, ensure=False)
    await own.bind(bus.EXCHANGE, PAYMENT["type"])
    await bus.publish(await bus.events_exchange(queue), PAYMENT["type"], message)
    forged = _forged()
    async with running(consumer(Effects(), transactions, sample_url)):
        await until(lambda: _parked(queue))
    dead = await (await queue.get_queue(QUEUE.dead)).get(timeout=5, no_ack=True)
    assert dead is not None
    assert dead.headers[ATTEMPTS_HEADER] == bus.MAX_ATTEMPTS
    assert dead.headers[PUBLISHER_HEADER] == "payments"
    assert _forged() == forged


async def test_a_queue_of_a_version_without_users_goes_on_working(
    queue: AbstractChannel, database: Database, transactions: Transactions, sample_url: SecretStr
) -> None:
    """Its arguments cannot be changed, and its messages must not be lost.

    When one of its queues is deleted, it is made again while the other stays what it is.
    """
    await forget_queues(queue, QUEUE.name)
    await bus.declare_queue(queue, QUEUE, legacy=(QUEUE.name, QUEUE.retry))
    poison = event(1, poison="arsenic")
    await send(queue, poison, event(2))
    async with running(consumer(Effects(), transactions, sample_url)):
        await until(lambda: _drained(queue, database, 1))
        await until(lambda: _parked(queue))
        await queue.queue_delete(QUEUE.name)
        await until(lambda: _is_declared(sample_url))
        await send(queue, event(3))
        await until(lambda: _drained(queue, database, 2))
    assert await ids(database) == [2, 3]


async def _is_declared(url: SecretStr) -> bool:
    async with bus.connected(url, name="test") as connection:
        channel = await bus.publishing_channel(connection)
        return await bus.is_declared(channel, QUEUE.name, user="sample")


async def test_a_refused_password_is_in_no_log(
    transactions: Transactions, sample_url: SecretStr, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    canary = f"canary{secrets.token_hex(12)}"
    url = SecretStr(broker_url(sample_url.get_secret_value(), "sample", canary))
    with capture_logs() as logged:
        async with running(consumer(Effects(), transactions, url)):
            await until(lambda: bool(logged))
    assert "ACCESS_REFUSED" in logged[0]["cause"]
    assert canary not in str(logged)
    assert canary not in caplog.text
