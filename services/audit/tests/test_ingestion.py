"""Events become rows: once each, whole, in their chains."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import SecretStr

from services.audit.evidence.drafts import read
from services.audit.evidence.sealed_heads import Evidence
from services.audit.handlers import QUEUE, handle
from services.audit.service.verification import verify_everything
from services.audit.tests.conftest import deliver, event, rows_of
from shared import bus
from shared.consumer import Consumer
from shared.events import Event
from shared.testing import Database, broker_url_of
from shared.tests.messages import outgoing
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def is_sound(transactions: Transactions) -> bool:
    async with transactions.system() as session:
        reports = await verify_everything(session, Evidence())
    return all(report.valid for report in reports)


async def test_a_row_contains_what_the_event_contained(
    database: Database, transactions: Transactions
) -> None:
    sent = event("APPROVE", "voucher", correlation_id="request-42")
    await deliver(transactions, sent)
    [row] = await rows_of(database)
    assert row["created_at"] == sent.time
    assert json.loads(row["old_values"]) == {"price": "399.99"}
    assert json.loads(row["new_values"]) == {"price": "400.00"}
    expected = {
        "user_id": 5,
        "organization_id": 7,
        "action": "APPROVE",
        "entity_type": "voucher",
        "entity_id": 1,
        "ip_address": "192.0.2.7",
        "user_agent": None,
        "event_id": sent.id,
        "correlation_id": "request-42",
        "service": "vouchers",
        "position": 1,
        "previous_hash": bytes(32),
    }
    assert {name: row[name] for name in expected} == expected
    envelope = json.loads(row["envelope"])
    assert envelope["type"] == sent.type
    assert envelope["data"] == {
        "entity_version": 1,
        "causation_id": None,
        "actor": {"role": "staff"},
    }


async def test_a_repeated_event_changes_nothing_whatever_its_age(
    database: Database, transactions: Transactions
) -> None:
    first, second = event(), event()
    await deliver(transactions, first, second, first)
    await deliver(transactions, second)
    async with database.admin() as admin:
        await admin.execute("UPDATE inbox SET handled_at = handled_at - interval '7 years'")
    await deliver(transactions, first, second)
    assert [row["event_id"] for row in await rows_of(database)] == [first.id, second.id]
    assert await is_sound(transactions)


async def test_a_schema_newer_than_ours_is_stored_whole(
    database: Database, transactions: Transactions
) -> None:
    body = event().model_dump(mode="json")
    body["type"] = "rooms.room.painted.v3"
    body["traceparent"] = "00-abc"
    body["data"] |= {"colour": {"name": "green", "code": 7}, "action": "PAINT"}
    body["data"]["actor"]["device"] = "wall"
    await deliver(transactions, Event.model_validate_json(json.dumps(body)))
    [row] = await rows_of(database)
    envelope = json.loads(row["envelope"])
    assert row["action"] == "PAINT"
    assert envelope["traceparent"] == "00-abc"
    assert envelope["data"]["colour"] == {"name": "green", "code": 7}
    assert envelope["data"]["actor"]["device"] == "wall"
    assert await is_sound(transactions)


STRANGE: list[Any] = [
    2**63 - 1,
    -(2**63),
    2**53,
    2**70,
    1e22,
    1e23,
    1.0,
    -0.0,
    0.1,
    1e-7,
    float("inf"),
    float("nan"),
    "NUL \x00 and \u2028 and \U0001f600",
    {"a \x00 name": 1},
    {"é": 1, "\U0001f600": 2, "\ue000": 3},
    [[], {}, None, True, "1"],
    {"$integer": "5"},
]


@pytest.mark.parametrize("value", STRANGE, ids=str)
async def test_strange_values_keep_the_chain_sound(
    database: Database, transactions: Transactions, value: Any
) -> None:
    await deliver(transactions, event(new_values={"value": value}), event())
    assert len(await rows_of(database)) == 2
    assert await is_sound(transactions)


async def test_every_organization_has_its_own_chain(
    database: Database, transactions: Transactions
) -> None:
    await deliver(transactions, *(event(organization_id=o) for o in (7, None, 8, 7)))
    await deliver(transactions, *(event(organization_id=o) for o in (8, 7, None)))
    rows = await rows_of(database)
    for organization in (7, 8, None):
        chain = [row for row in rows if row["organization_id"] == organization]
        assert [row["position"] for row in chain] == list(range(1, len(chain) + 1))
        previous = [bytes(32)] + [row["hash"] for row in chain]
        assert [row["previous_hash"] for row in chain] == previous[:-1]
    assert await is_sound(transactions)


async def test_writers_side_by_side_keep_every_chain_in_one_piece(
    database: Database, transactions: Transactions
) -> None:
    batches = [[event(organization_id=o % 3 + 1) for o in range(n, n + 20)] for n in range(10)]
    await asyncio.gather(*(deliver(transactions, *batch) for batch in batches))
    assert len(await rows_of(database)) == 200
    assert await is_sound(transactions)


async def test_the_queue_takes_every_event_in_batches(
    database: Database, transactions: Transactions, rabbitmq_url: SecretStr
) -> None:
    sent = [event(type=f"vouchers.at.all.v{n}") for n in range(500)]
    consumer = Consumer(
        QUEUE, handle, transactions, broker_url_of("audit", rabbitmq_url), batch=100, read=read
    )
    async with bus.connected(rabbitmq_url, name="test") as connection:
        channel = await bus.publishing_channel(connection)
        await (await bus.declare_queue(channel, QUEUE)).purge()
        messages = [outgoing(e) for e in sent]
        assert not any(await bus.publish_all(channel, messages * 2))
        running = asyncio.ensure_future(consumer.run())
        try:
            async with asyncio.timeout(60):
                while len(await rows_of(database)) < len(sent):
                    await asyncio.sleep(0.1)
                while await _waiting(channel):
                    await asyncio.sleep(0.1)
        finally:
            running.cancel()
            await asyncio.wait([running])
            # It takes everything: unrouted events of other tests would end here.
            for name in (QUEUE.name, QUEUE.dead, QUEUE.retry):
                await channel.queue_delete(name)
    assert [row["event_id"] for row in await rows_of(database)] == [e.id for e in sent]
    assert await is_sound(transactions)


async def _waiting(channel: Any) -> int:
    declared = await channel.declare_queue(QUEUE.name, passive=True)
    return int(declared.declaration_result.message_count)
