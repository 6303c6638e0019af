"""`carnet dead-letters` over a real broker: list, show, replay, drop."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from aio_pika.abc import AbstractChannel
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from typer.testing import CliRunner, Result

from deploy.cli import app
from deploy.operate.dead_letters import known_queues
from services.audit.events import CATALOGUE
from services.audit.evidence.drafts import read
from services.audit.handlers import QUEUE, handle
from shared import bus
from shared.consumer import Consumer, read_event
from shared.db import make_engine
from shared.events import Event
from shared.settings import asyncpg_url
from shared.telemetry import HANDLED
from shared.testing import Database, broker_url_of, service_database, until
from shared.tests.messages import event, forget_queues, message_of, running, send, waiting
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

session_database = service_database("services.audit")


@pytest.fixture
async def channel(rabbitmq_url: SecretStr) -> AsyncIterator[AbstractChannel]:
    async with bus.connected(rabbitmq_url, name="test") as connection:
        channel = await bus.publishing_channel(connection)
        await forget_queues(channel, QUEUE.name)
        await bus.declare_queue(channel, QUEUE)
        yield channel
        await forget_queues(channel, QUEUE.name)


@pytest.fixture
async def transactions(database: Database) -> AsyncIterator[Transactions]:
    engine = make_engine(asyncpg_url(database.url))
    yield Transactions(engine, "carnet/audit", CATALOGUE)
    await engine.dispose()


@pytest.fixture
def audit_url(rabbitmq_url: SecretStr) -> SecretStr:
    return broker_url_of("audit", rabbitmq_url)


@pytest.fixture(autouse=True)
def _broker(rabbitmq_url: SecretStr, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = broker_url_of("operator", rabbitmq_url)
    monkeypatch.setenv("OPERATOR_RABBITMQ_URL", operator.get_secret_value())


async def carnet(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["dead-letters", *arguments])


async def told(*arguments: str) -> str:
    result = await carnet(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


async def broken(_session: AsyncSession, _events: Sequence[Event]) -> None:
    raise RuntimeError("no room for this\nsecond line")


async def park(
    channel: AbstractChannel, transactions: Transactions, url: SecretStr, *events: Event
) -> None:
    """Let a consumer that cannot handle anything park these events."""
    await send(channel, *events)
    parked = HANDLED.labels(QUEUE.name, "parked")._value  # counted once it is acknowledged, too
    expected = parked.get() + len(events)
    async with running(Consumer(QUEUE, broken, transactions, url, read=read_event)):
        await until(lambda: parked.get() == expected)
    await until(lambda: _holds(channel, QUEUE.dead, len(events)))


async def _holds(channel: AbstractChannel, queue: str, count: int) -> bool:
    return await waiting(channel, queue) == count


async def test_it_knows_the_queues_of_every_service() -> None:
    assert {"audit.log", "vouchers.payments", "identity.organizations"} <= set(known_queues())


async def test_parked_messages_are_counted_and_shown_and_stay(
    channel: AbstractChannel, transactions: Transactions, audit_url: SecretStr
) -> None:
    first, second = event(41), event(42)
    assert "audit.log                    0\n" in await told("list", "audit.log", "nothing.here")
    await park(channel, transactions, audit_url, first, second)
    listed = await told("list")
    assert "audit.log                    2\n" in listed
    assert "does not exist yet" in await told("list", "nothing.here")
    for _ in range(2):
        await until(lambda: _holds(channel, QUEUE.dead, 2))
        shown = await told("show", "audit.log")
        for one in (first, second):
            assert f"{one.id}  sample.thing.updated.v1" in shown
        assert "parked after 5 attempts: RuntimeError: no room for this\n" in shown
        assert "UPDATE of thing/41, organization 7, by system at" in shown
        assert '"correlation_id": "request-1"' in shown
    await until(lambda: _holds(channel, QUEUE.dead, 2))
    alone = await told("show", "audit.log", second.id)
    assert first.id not in alone
    await until(lambda: _holds(channel, QUEUE.dead, 2))
    assert len((await told("show", "audit.log", "--limit", "1")).split("parked after")) == 2


async def test_a_replay_is_handled_as_if_for_the_first_time(
    channel: AbstractChannel,
    transactions: Transactions,
    audit_url: SecretStr,
    database: Database,
) -> None:
    events = [event(number) for number in range(3)]
    await park(channel, transactions, audit_url, *events)
    assert "1 replayed" in await told("replay", "audit.log", events[1].id)
    await until(lambda: _holds(channel, QUEUE.dead, 2))
    async with running(Consumer(QUEUE, handle, transactions, audit_url, read=read)):
        await until(lambda: _has_rows(database, 1))
        assert "2 replayed" in await told("replay", "audit.log", "--all")
        await until(lambda: _has_rows(database, 3))
    assert "0 replayed" in await told("replay", "audit.log", "--all")
    assert "Nothing is parked for audit.log" in await told("show", "audit.log")


async def _has_rows(database: Database, count: int) -> bool:
    return len(await database.rows("SELECT 1 FROM audit_logs")) == count


async def test_replaying_twice_has_one_effect(
    channel: AbstractChannel,
    transactions: Transactions,
    audit_url: SecretStr,
    database: Database,
) -> None:
    one = event()
    await park(channel, transactions, audit_url, one)
    async with running(Consumer(QUEUE, handle, transactions, audit_url, read=read)):
        assert "1 replayed" in await told("replay", "audit.log", one.id)
        await until(lambda: _has_rows(database, 1))
        # A replay that was cut off before it removed the parked one leaves it to the next.
        await send_to_dead(channel, one)
        assert "1 replayed" in await told("replay", "audit.log", one.id)
        await until(lambda: _holds(channel, QUEUE.name, 0))
        await asyncio.sleep(0.3)
    assert await _has_rows(database, 1)
    assert await waiting(channel, QUEUE.dead) == 0


async def send_to_dead(channel: AbstractChannel, one: Event) -> None:
    await bus.publish(channel.default_exchange, QUEUE.dead, message_of(one))


async def test_a_replay_that_fails_again_counts_its_attempts_anew(
    channel: AbstractChannel, transactions: Transactions, audit_url: SecretStr
) -> None:
    await park(channel, transactions, audit_url, event())
    await told("replay", "audit.log", "--all")
    async with running(Consumer(QUEUE, broken, transactions, audit_url, read=read_event)):
        await asyncio.sleep(1)
        assert await waiting(channel, QUEUE.dead) == 0, "it is being tried again"
        await until(lambda: _holds(channel, QUEUE.dead, 1), seconds=60)
    assert "parked after 5 attempts" in await told("show", "audit.log")


async def test_without_its_queue_a_replay_keeps_the_message(
    channel: AbstractChannel, transactions: Transactions, audit_url: SecretStr
) -> None:
    await park(channel, transactions, audit_url, event())
    await channel.queue_delete(QUEUE.name)
    result = await carnet("replay", "audit.log", "--all")
    assert result.exit_code == 1
    await until(lambda: _holds(channel, QUEUE.dead, 1))


async def test_only_what_was_named_is_dropped(
    channel: AbstractChannel, transactions: Transactions, audit_url: SecretStr
) -> None:
    first, second = event(1), event(2)
    await park(channel, transactions, audit_url, first, second)
    for arguments in ([], [first.id, "--all"]):
        assert (await carnet("drop", "audit.log", *arguments)).exit_code == 1
    assert "0 dropped" in await told("drop", "audit.log", "no-such-id")
    await until(lambda: _holds(channel, QUEUE.dead, 2))
    assert "1 dropped" in await told("drop", "audit.log", first.id)
    await until(lambda: _holds(channel, QUEUE.dead, 1))
    assert first.id not in await told("show", "audit.log")
    await until(lambda: _holds(channel, QUEUE.dead, 1))
    assert "1 dropped" in await told("drop", "audit.log", "--all")
    assert await waiting(channel, QUEUE.dead) == 0


async def test_what_is_no_event_is_shown_and_dropped_all_the_same(channel: AbstractChannel) -> None:
    noise = bus.persistent_message(b"\xff not json", "", user="vouchers")
    await bus.publish(channel.default_exchange, QUEUE.dead, noise)
    shown = await told("show", "audit.log")
    assert "not json" in shown
    await until(lambda: _holds(channel, QUEUE.dead, 1))
    name = shown.split()[0]
    assert "1 dropped" in await told("drop", "audit.log", name)


async def test_an_error_is_reported_in_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["show", "nothing.here"], ["replay", "nothing.here", "--all"]):
        result = await carnet(*arguments)
        assert result.exit_code == 1
        assert "Traceback" not in result.output
    monkeypatch.setenv("OPERATOR_RABBITMQ_URL", "amqp://operator:x@127.0.0.1:1/")
    assert (await carnet("list")).exit_code == 1


async def park_as(
    channel: AbstractChannel,
    transactions: Transactions,
    url: SecretStr,
    user: str | None,
    one: Event,
) -> None:
    """Let the audit trail's consumer park an event that came from another user, or from none."""
    message = message_of(one)
    message.user_id = user
    await bus.publish(await bus.events_exchange(channel), one.type, message)
    async with running(Consumer(QUEUE, handle, transactions, url, read=read)):
        await until(lambda: _holds(channel, QUEUE.dead, 1))


async def test_a_forged_event_never_becomes_a_row_however_often_it_is_replayed(
    channel: AbstractChannel,
    transactions: Transactions,
    audit_url: SecretStr,
    database: Database,
) -> None:
    forged = event()
    await park_as(channel, transactions, audit_url, "vouchers", forged)
    shown = await told("show", "audit.log")
    assert "ForgedMessage: sample.thing.updated.v1 of carnet/sample was published by" in shown
    assert "\n  published by vouchers\n" in shown
    for options in ([], ["--vouch"]):
        await until(lambda: _holds(channel, QUEUE.dead, 1))
        assert "1 replayed" in await told("replay", "audit.log", "--all", *options)
        await until(lambda: _holds(channel, QUEUE.dead, 0))
        async with running(Consumer(QUEUE, handle, transactions, audit_url, read=read)):
            await until(lambda: _holds(channel, QUEUE.dead, 1))
    assert await _has_rows(database, 0)


async def test_an_event_without_a_user_is_replayed_when_a_person_vouches_for_it(
    channel: AbstractChannel,
    transactions: Transactions,
    audit_url: SecretStr,
    database: Database,
) -> None:
    """As those are that a version without users had published before it was replaced."""
    await park_as(channel, transactions, audit_url, None, event())
    assert "published by an unknown user" in await told("show", "audit.log")
    await until(lambda: _holds(channel, QUEUE.dead, 1))
    await told("replay", "audit.log", "--all")
    async with running(Consumer(QUEUE, handle, transactions, audit_url, read=read)):
        await until(lambda: _holds(channel, QUEUE.dead, 1))
        assert await _has_rows(database, 0)
        await told("replay", "audit.log", "--all", "--vouch")
        await until(lambda: _has_rows(database, 1))


async def test_only_the_operator_may_replay(
    rabbitmq_url: SecretStr, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (rabbitmq_url, broker_url_of("audit", rabbitmq_url)):
        monkeypatch.setenv("OPERATOR_RABBITMQ_URL", url.get_secret_value())
        result = await carnet("replay", "audit.log", "--all")
        assert result.exit_code == 1
