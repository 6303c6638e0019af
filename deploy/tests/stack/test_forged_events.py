"""With a process's user at the broker an attacker cannot activate a voucher or write audit rows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused
from uuid_utils import uuid7

from deploy.api_client import unique
from deploy.demo.story import SECURE_CARD, Story
from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows
from shared import bus
from shared.db import now
from shared.events import Event
from shared.testing import until

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

TAKERS = ("vouchers.payments", "audit.log")


def forged_payment(voucher: dict[str, object]) -> Event:
    """The event with which payments reports that a voucher is paid."""
    return Event.model_validate(
        {
            "id": str(uuid7()),
            "source": "carnet/payments",
            "type": "payments.payment.succeeded.v1",
            "time": now(),
            "subject": "payment_transaction/1",
            "data": {
                "action": "SUCCEED",
                "entity_type": "payment_transaction",
                "entity_id": 1,
                "entity_version": 9,
                "organization_id": voucher["organization_id"],
                "actor": {},
                "correlation_id": "forged",
                "old_values": {"status": "processing"},
                "new_values": {
                    "voucher_id": voucher["id"],
                    "status": "succeeded",
                    "amount": "399.99",
                    "currency": "EUR",
                    "invoice_number": "FORGED-1",
                },
            },
        }
    )


@asynccontextmanager
async def signed_in(stack: Stack, user: str) -> AsyncIterator[AbstractChannel]:
    url = stack.system.broker_urls[user] if user else stack.system.rabbitmq_url
    async with bus.connected(url, name="test") as connection:
        yield await bus.publishing_channel(connection)


async def publish(channel: AbstractChannel, exchange: str, event: Event, user: str) -> None:
    body = event.model_dump_json().encode()
    target = await channel.get_exchange(exchange, ensure=False)
    await bus.publish(target, event.type, bus.persistent_message(body, event.id, user=user))


@pytest.mark.parametrize("user", ["gateway", "vouchers", "audit", "operator"])
async def test_the_broker_refuses_a_forged_payment(stack: Stack, user: str) -> None:
    event = forged_payment({"id": 1, "organization_id": 1})
    async with signed_in(stack, user) as channel:
        with pytest.raises(ChannelAccessRefused):
            await publish(channel, bus.EXCHANGE, event, user)


@pytest.mark.parametrize("way", ["bound exchanges", "CC", "no user"])
async def test_a_forged_payment_that_passes_the_broker_is_parked(
    stack: Stack, shop: Story, rows: Rows, way: str
) -> None:
    token = await shop.cards.token_for_card(SECURE_CARD)
    order = {
        "voucher_type_id": shop.voucher_type["id"],
        "payment_method": "credit_card",
        "payment_token": token,
    }
    voucher = await shop.client.call(
        "POST", "/api/vouchers/purchase", order, expect=201, key=unique("forged")
    )
    event = forged_payment(voucher)
    before = {name: await parked(stack, name) for name in TAKERS}
    async with signed_in(stack, "vouchers") as channel:
        await smuggle(channel, event, way)
    for name in TAKERS:
        await until(partial(_is_parked, stack, name, before[name] + 1))
    read = await shop.client.call("GET", f"/api/vouchers/{voucher['id']}")
    assert (read["status"], read["invoice_number"]) == ("pending", None)
    assert await rows("SELECT 1 FROM audit.audit_logs WHERE event_id = $1", event.id) == []
    worker_log = (stack.logs / "vouchers-worker.log").read_text()
    others = (stack.logs / "vouchers-worker-2.log").read_text()
    assert event.id in worker_log + others
    assert "message_forged" in worker_log + others
    async with signed_in(stack, "operator") as channel:
        for name in TAKERS:
            dead = await channel.get_queue(name + bus.DEAD_SUFFIX, ensure=False)
            message = await dead.get(no_ack=True)
            assert message is not None
            assert message.message_id == event.id


async def smuggle(channel: AbstractChannel, event: Event, way: str) -> None:
    """Publish past the topic permissions, as RabbitMQ 3.10 lets the user of vouchers."""
    body = event.model_dump_json().encode()
    if way == "CC":
        headers = {"CC": [event.type]}
        message = bus.persistent_message(body, event.id, headers, user="vouchers")
        exchange = await bus.events_exchange(channel)
        await bus.publish(exchange, "vouchers.nothing.happened.v1", message)
        return
    name = f"vouchers.{unique('trick')}"
    trick = await channel.declare_exchange(name, ExchangeType.TOPIC, auto_delete=True)
    await (await bus.events_exchange(channel)).bind(trick, "#")
    message = Message(body, message_id=event.id)
    if way != "no user":
        message.user_id = "vouchers"
    await bus.publish(trick, event.type, message)
    await trick.delete()


async def parked(stack: Stack, queue: str) -> int:
    async with signed_in(stack, "") as channel:
        dead = await channel.declare_queue(queue + bus.DEAD_SUFFIX, passive=True)
        return dead.declaration_result.message_count or 0


async def _is_parked(stack: Stack, queue: str, count: int) -> bool:
    return await parked(stack, queue) == count
