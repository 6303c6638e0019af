"""What follows for bookings when a client or a therapist leaves."""

import asyncio
from typing import Any

import pytest

from services.vouchers.tests.events import deliver, event
from services.vouchers.tests.outside import CLIENT
from services.vouchers.tests.practice import (
    HOME,
    SECOND_THERAPIST,
    THERAPIST,
    Practice,
    at,
    send,
)
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


def _deleted(user_id: int) -> Any:
    return event("identity.user.deleted.v1", user_id, 9, tokens_not_before=1.5)


async def test_a_deleted_clients_reservations_are_cancelled(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    await practice.add_therapist()
    kind = await practice.type()
    people = practice.people
    vouchers = [await practice.voucher_of(people.client, kind["id"]) for _ in range(2)]
    for number, voucher in enumerate(vouchers):
        await practice.booked(voucher["id"], starts_at=at(3 + number))
    begun = await practice.booked(vouchers[0]["id"], starts_at=at(6))
    await practice.begin(begun)
    other = await practice.voucher_of(people.second_client, kind["id"])
    await practice.booked(other["id"], people.second_client, starts_at=at(5))
    await deliver(transactions, _deleted(CLIENT))
    rows = await database.rows(
        "SELECT client_id, status, reason, starts_at > now() AS is_future FROM reservations"
    )
    of_client = [row for row in rows if row["client_id"] == CLIENT]
    assert {(row["is_future"], row["status"], row["reason"]) for row in of_client} == {
        (True, "cancelled", "client_deleted"),
        (False, "booked", None),
    }
    assert [row["status"] for row in rows if row["client_id"] != CLIENT] == ["booked"]
    events = await database.events()
    types = [published["type"] for published in events]
    assert types.count("vouchers.reservation.cancelled.v1") == 2
    assert all(
        published["data"]["actor"]["role"] == "system"
        for published in events
        if published["type"] == "vouchers.reservation.cancelled.v1"
    )
    await practice.require_sums()


async def test_a_client_who_is_deleted_while_booking_has_no_session(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    answer, _ = await asyncio.gather(
        practice.book(voucher["id"], starts_at=at(3)),
        deliver(transactions, _deleted(CLIENT)),
    )
    assert answer.status_code == 201 or answer.json()["code"] == "client_inactive"
    rows = await database.rows("SELECT status FROM reservations")
    assert {row["status"] for row in rows} <= {"cancelled"}
    await practice.require_sums()


async def test_a_therapist_who_leaves_has_no_slots_and_sessions_to_reassign(
    practice: Practice, transactions: Transactions
) -> None:
    await practice.add_therapist()
    second = await practice.add_therapist(SECOND_THERAPIST)
    voucher = await practice.voucher()
    reservation = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    day = at(4).date().isoformat()
    slots = f"/api/vouchers/{voucher['id']}/slots?from={day}&until={day}"
    stretch = f"from={at(0):%Y-%m-%dT%H:%M:%SZ}&until={at(10):%Y-%m-%dT%H:%M:%SZ}"
    unassigned = f"{HOME}/sessions?{stretch}&needs_reassignment=true"
    client, owner = practice.client, practice.people.owner
    assert await send(client, "GET", unassigned, owner) == []
    await deliver(transactions, event("identity.user.updated.v1", THERAPIST, 2, is_active=False))
    therapists = {slot["therapist_id"] for slot in await send(client, "GET", slots, owner)}
    assert therapists == {SECOND_THERAPIST}
    [session] = await send(client, "GET", unassigned, owner)
    assert session["id"] == reservation["session_id"]
    path = f"/api/sessions/{session['id']}"
    changed = await send(client, "PUT", path, owner, {"therapist_id": SECOND_THERAPIST})
    assert changed["resource_ids"] == [second["id"]]
    assert await send(client, "GET", unassigned, owner) == []
