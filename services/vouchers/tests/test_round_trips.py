"""The round trips to the database of the busiest requests: each message that the driver sends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from asyncpg.connection import LoggedQuery
from fastapi import FastAPI
from sqlalchemy import event

from services.vouchers.tests.people import People, buy, new_type, new_voucher, redeem
from services.vouchers.tests.practice import THERAPIST, Practice, at, day_of

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": "6f1f7f5e-5a0f-4d9b-9d53-0b4b2c1f2c11"}
# The rows that a transaction may see are set together with its BEGIN: a member sees all rows of a
# purchase for itself. One statement writes all rows of a transaction with their events.
BEGIN, COMMIT = ["BEGIN"], ["COMMIT"]
OFFER = ["SELECT voucher_types"]
SALE = ["INSERT vouchers, INSERT outbox"]
ACTIVATION = ["UPDATE vouchers, INSERT voucher_codes, INSERT outbox"]


@contextmanager
def round_trips_of(app: FastAPI) -> Iterator[list[str]]:
    """Yield a list that grows by what each message does, and to which tables."""
    messages: list[str] = []

    def record(query: LoggedQuery) -> None:
        messages.append(_summary(query.query))

    def observe(connection: Any, *_: Any) -> None:
        connection.driver_connection.add_query_logger(record)

    def ignore(connection: Any, *_: Any) -> None:
        connection.driver_connection.remove_query_logger(record)

    pool = app.state.transactions.engine.sync_engine
    event.listen(pool, "checkout", observe)
    event.listen(pool, "checkin", ignore)
    try:
        yield messages
    finally:
        event.remove(pool, "checkout", observe)
        event.remove(pool, "checkin", ignore)


def _summary(message: str) -> str:
    words = message.replace("(", " ").replace(".", " ").replace(";", " ").split()
    if words[0] in ("BEGIN", "COMMIT", "ROLLBACK"):
        return words[0]
    writes = [
        f"{verb} {words[place + (2 if verb == 'INSERT' else 1)]}"
        for place, verb in enumerate(words)
        if verb in ("INSERT", "UPDATE") and words[place - 1] not in ("FOR", "KEY", "DO")
    ]
    return ", ".join(writes) or f"SELECT {words[words.index('FROM') + 1]}"


async def test_a_purchase_is_seven_round_trips(
    app: FastAPI, client: httpx.AsyncClient, people: People
) -> None:
    kind = await new_type(client, people.owner)
    await buy(client, people.client, kind["id"])
    with round_trips_of(app) as messages:
        assert (await buy(client, people.client, kind["id"])).status_code == 201
    assert messages == [*BEGIN, *OFFER, *SALE, *COMMIT, *BEGIN, *ACTIVATION, *COMMIT]


async def test_a_new_key_costs_one_more(
    app: FastAPI, client: httpx.AsyncClient, people: People
) -> None:
    kind = await new_type(client, people.owner)
    await buy(client, people.client, kind["id"])
    with round_trips_of(app) as messages:
        assert (await buy(client, people.client | KEY, kind["id"])).status_code == 201
    assert messages == [
        *BEGIN,
        "INSERT idempotency_keys",
        "INSERT vouchers, UPDATE idempotency_keys, INSERT outbox",
        *COMMIT,
        *BEGIN,
        *ACTIVATION,
        "UPDATE idempotency_keys",
        *COMMIT,
    ]


async def test_a_redemption_writes_with_one_statement(
    app: FastAPI, client: httpx.AsyncClient, people: People
) -> None:
    voucher = await new_voucher(client, people)
    await redeem(client, people.therapist, voucher["id"])
    with round_trips_of(app) as messages:
        answer = await redeem(client, people.therapist, voucher["id"])
    assert answer.status_code == 201, answer.text
    assert messages == [
        *BEGIN,
        "SELECT vouchers",
        "SELECT vouchers",
        "SELECT adjustments",
        "SELECT voucher_codes",
        "UPDATE voucher_codes, INSERT redemptions, UPDATE vouchers, INSERT outbox",
        *COMMIT,
    ]


async def test_a_booking_is_nine_round_trips(app: FastAPI, practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(total_sessions=3)
    await practice.booked(voucher["id"], starts_at=at(3, 9), therapist_id=THERAPIST)
    with round_trips_of(app) as messages:
        await practice.booked(voucher["id"], starts_at=at(4, 9), therapist_id=THERAPIST)
    assert messages == [
        *BEGIN,
        "SELECT vouchers",
        "SELECT vouchers",  # the locked row
        "SELECT adjustments",  # and everything else that the rules read of a voucher
        "SELECT resources",
        "SELECT working_hours",  # and everything else of the therapist's calendar
        "SELECT resource_voucher_types",
        "INSERT sessions, INSERT occupations, INSERT reservations, UPDATE vouchers, INSERT outbox",
        *COMMIT,
    ]


async def test_free_times_are_seven_round_trips(
    app: FastAPI, client: httpx.AsyncClient, people: People, practice: Practice
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    path = f"/api/vouchers/{voucher['id']}/slots?from={day_of(1)}&until={day_of(5)}"
    assert (await client.get(path, headers=people.client)).json()
    with round_trips_of(app) as messages:
        assert (await client.get(path, headers=people.client)).json()
    assert messages == [
        *BEGIN,
        "SELECT vouchers",
        "SELECT adjustments",
        "SELECT sessions",
        "SELECT resources",
        "SELECT working_hours",
        *COMMIT,
    ]
