"""What each user of the broker may do, tried at a real broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused
from pydantic import SecretStr

from deploy.checks.event_shapes.consumers import all_readers
from deploy.docker.environment import SERVICES
from deploy.operate.broker.access import GATEWAY, TAKES, USERS
from shared import bus
from shared.bus import Queue
from shared.publishers import OPERATOR, service_in
from shared.shapes import published_shapes
from shared.testing import broker_url_of
from shared.tests.messages import forget_queues

pytestmark = pytest.mark.anyio

QUEUES = [Queue(r.name, r.bindings) for r in all_readers() if r.is_durable]
PAID = "payments.payment.succeeded.v1"


def kinds_of(queue: Queue) -> Iterator[str]:
    yield from (queue.name, queue.retry, queue.dead)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def everything(anyio_backend: object, rabbitmq_url: SecretStr) -> AsyncIterator[None]:
    """Every queue, declared and bound by its own service's user, as its worker does it."""
    async with bus.connected(rabbitmq_url, name="test") as connection:
        channel = await connection.channel()
        await forget_queues(channel, *(queue.name for queue in QUEUES))
        for queue in QUEUES:
            async with signed_in(queue.service, rabbitmq_url) as own:
                await bus.declare_queue(own, queue)
        yield
        await forget_queues(channel, *(queue.name for queue in QUEUES))


@asynccontextmanager
async def signed_in(user: str, url: SecretStr) -> AsyncIterator[AbstractChannel]:
    async with bus.connected(broker_url_of(user, url), name="test") as connection:
        yield await bus.publishing_channel(connection)


Act = Callable[[AbstractChannel], Awaitable[object]]


async def is_refused(user: str, url: SecretStr, act: Act) -> bool:
    """Return whether the broker refuses an action because a right is missing."""
    async with signed_in(user, url) as channel:
        try:
            async with asyncio.timeout(10):
                await act(channel)
        except ChannelAccessRefused:
            return True
    return False


def publishing(exchange: str, key: str, user: str) -> Act:
    async def act(channel: AbstractChannel) -> None:
        target = await channel.get_exchange(exchange, ensure=False)
        await target.publish(Message(b"forged", user_id=user), key, mandatory=False)

    return act


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("user", USERS)
async def test_each_user_publishes_its_own_events_alone(user: str, rabbitmq_url: SecretStr) -> None:
    for service in SERVICES:
        act = publishing(bus.EXCHANGE, f"{service}.nothing.happened.v1", user)
        assert await is_refused(user, rabbitmq_url, act) == (user != service), service


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("user", [user for user in USERS if user != "payments"])
async def test_a_forged_payment_is_refused(user: str, rabbitmq_url: SecretStr) -> None:
    assert await is_refused(user, rabbitmq_url, publishing(bus.EXCHANGE, PAID, user))
    for queue in QUEUES:
        for name in kinds_of(queue):
            # A user who may write to the default exchange reaches every queue.
            assert await is_refused(user, rabbitmq_url, publishing("amq.default", name, user))
        own = publishing(queue.exchange, queue.name, user)
        may = user in (queue.service, OPERATOR)
        assert await is_refused(user, rabbitmq_url, own) == (not may), queue.name


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("user", SERVICES)
async def test_no_user_publishes_in_anothers_name(user: str, rabbitmq_url: SecretStr) -> None:
    for other in (*SERVICES, "gateway", OPERATOR, "carnet"):
        async with signed_in(user, rabbitmq_url) as channel:
            exchange = await bus.events_exchange(channel)
            message = Message(b"forged", user_id=other)
            publish = exchange.publish(message, f"{user}.nothing.happened.v1", mandatory=False)
            if other == user:
                await publish
                continue
            with pytest.raises(ChannelPreconditionFailed, match="user_id"):
                await publish


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("user", USERS)
async def test_no_user_reads_empties_or_deletes_anothers_queue(
    user: str, rabbitmq_url: SecretStr
) -> None:
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    def reading(name: str) -> Act:
        async def act(channel: AbstractChannel) -> None:
            await (await channel.get_queue(name, ensure=False)).consume(arrived.put)

        return act

    def on(name: str, method: str) -> Act:
        async def act(channel: AbstractChannel) -> None:
            queue = await channel.get_queue(name, ensure=False)
            if method == "purge":
                await queue.purge()
            else:
                await queue.delete(if_unused=False, if_empty=False)

        return act

    for queue in (queue for queue in QUEUES if queue.service != user):
        for name in kinds_of(queue):
            may_read = user == OPERATOR and name == queue.dead
            assert await is_refused(user, rabbitmq_url, reading(name)) == (not may_read), name
            assert await is_refused(user, rabbitmq_url, on(name, "purge")) == (not may_read), name
            assert await is_refused(user, rabbitmq_url, on(name, "delete")), name


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("user", USERS)
async def test_no_user_declares_or_binds_on_anothers_name(
    user: str, rabbitmq_url: SecretStr
) -> None:
    def declaring(name: str, **arguments: str) -> Act:
        async def act(channel: AbstractChannel) -> None:
            await channel.declare_queue(name, exclusive=True, arguments=dict(arguments))

        return act

    def deleting(exchange: str) -> Act:
        async def act(channel: AbstractChannel) -> None:
            await channel.exchange_delete(exchange)

        return act

    def unbinding(queue: Queue) -> Act:
        async def act(channel: AbstractChannel) -> None:
            found = await channel.get_queue(queue.name, ensure=False)
            await found.unbind(bus.EXCHANGE, queue.bindings[0])

        return act

    for other in (service for service in (*SERVICES, GATEWAY) if service != user):
        assert await is_refused(user, rabbitmq_url, declaring(f"{other}.new")), other
    for queue in (queue for queue in QUEUES if queue.service != user):
        assert await is_refused(user, rabbitmq_url, unbinding(queue)), queue.name
    for exchange in (bus.EXCHANGE, bus.LISTENERS_EXCHANGE):
        assert await is_refused(user, rabbitmq_url, deleting(exchange)), exchange
    # Dead letters go where their user may not write, and without a user.
    through = {"x-dead-letter-exchange": bus.EXCHANGE, "x-dead-letter-routing-key": PAID}
    if user not in SERVICES:
        assert await is_refused(user, rabbitmq_url, declaring(f"{user}.trap", **through))


@pytest.mark.parametrize("user", USERS)
async def test_each_user_receives_only_the_events_that_it_takes(
    user: str, rabbitmq_url: SecretStr
) -> None:
    takes = TAKES.get(user, ())

    def binding(key: str) -> Act:
        async def act(channel: AbstractChannel) -> None:
            queue = await channel.declare_queue(f"{user}.test", exclusive=True)
            await queue.bind(bus.EXCHANGE, key)

        return act

    for service in SERVICES:
        may = takes is None or service in takes
        key = f"{service}.nothing.happened.v1"
        assert await is_refused(user, rabbitmq_url, binding(key)) == (not may), service
    for wide in ("#", "*.nothing.happened.v1"):
        assert await is_refused(user, rabbitmq_url, binding(wide)) == (takes is not None), wide


def test_the_table_is_what_the_consumers_take() -> None:
    read: dict[str, set[str]] = {}
    for reader in all_readers():
        read.setdefault(service_in(reader.name), set()).update(map(service_in, reader.bindings))
    assert read.pop("audit") == {"#"}
    assert read == {user: set(takes) for user, takes in TAKES.items() if takes is not None}


@pytest.mark.usefixtures("everything")
async def test_what_passes_the_broker_names_the_user_all_the_same(
    rabbitmq_url: SecretStr,
) -> None:
    """Topic permissions know nothing of exchanges bound to each other: consumers must compare."""
    async with bus.connected(rabbitmq_url, name="test") as connection:
        # The tests above may have left messages of other users in the queue.
        await (await (await connection.channel()).get_queue("vouchers.payments")).purge()
    async with signed_in("vouchers", rabbitmq_url) as channel:
        trick = await channel.declare_exchange("vouchers.trick", ExchangeType.TOPIC)
        carnet = await bus.events_exchange(channel)
        await carnet.bind(trick, "#")
        await trick.publish(Message(b"forged", user_id="vouchers"), PAID)
        await trick.delete()
    async with bus.connected(rabbitmq_url, name="test") as connection:
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        queue = await (await connection.channel()).get_queue("vouchers.payments", ensure=False)
        await queue.consume(arrived.put, no_ack=True)
        async with asyncio.timeout(30):
            assert (await arrived.get()).user_id == "vouchers"


@pytest.mark.parametrize("service", SERVICES)
def test_every_event_begins_with_the_name_of_its_service(service: str) -> None:
    """By it the broker and the consumers know whose event it is."""
    assert {service_in(kind) for kind in published_shapes(f"services.{service}")} == {service}
