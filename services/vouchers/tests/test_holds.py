"""Times that are held: while a client decides, or until the organization approves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.vouchers.service.holds import lapse_holds
from services.vouchers.tests.people import Headers
from services.vouchers.tests.practice import THERAPIST, Practice, at
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

AN_HOUR = timedelta(hours=1)


async def held_time(practice: Practice, **terms: Any) -> dict[str, Any]:
    """Hold a time with a new voucher and a new therapist; return the reservation."""
    await practice.add_therapist()
    voucher = await practice.voucher(**terms)
    return await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST, hold=True)


async def requested_time(practice: Practice) -> dict[str, Any]:
    """Book a session that the organization must approve; return the reservation."""
    await practice.add_therapist()
    voucher = await practice.voucher(booking_policy={"approval": True})
    return await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)


async def test_a_time_is_held_and_confirmed(practice: Practice, database: Database) -> None:
    before = datetime.now(UTC)
    hold = await held_time(practice, booking_policy={"hold_minutes": 20})
    assert (hold["status"], hold["held_for"], hold["booked_sessions"]) == ("held", "checkout", 1)
    held_for = datetime.fromisoformat(hold["held_until"]) - before
    assert timedelta(minutes=20) <= held_for < timedelta(minutes=21)
    answer = await practice.book(hold["voucher_id"], starts_at=at(3), therapist_id=THERAPIST)
    assert answer.status_code == 409
    confirmed = (await practice.act(hold, "confirm")).json()
    assert (confirmed["status"], confirmed["held_for"]) == ("booked", None)
    assert (confirmed["held_until"], confirmed["booked_sessions"]) == (None, 1)
    types = [event["type"] for event in (await database.events())[-2:]]
    assert types == ["vouchers.reservation.held.v1", "vouchers.reservation.confirmed.v1"]
    answer = await practice.act(hold, "confirm")
    assert (answer.status_code, answer.json()["code"]) == (409, "reservation_settled")
    await practice.require_sums()


async def test_a_client_holds_three_times_with_all_vouchers(practice: Practice) -> None:
    await practice.add_therapist()
    kind = await practice.type()
    vouchers = [await practice.voucher_of(practice.people.client, kind["id"]) for _ in range(2)]
    holds = [
        await practice.booked(vouchers[days % 2]["id"], starts_at=at(days), hold=True)
        for days in (2, 3, 4)
    ]
    answer = await practice.book(vouchers[0]["id"], starts_at=at(5), hold=True)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_holds")
    assert (await practice.book(vouchers[0]["id"], starts_at=at(5))).status_code == 201
    assert (await practice.act(holds[0], "cancel")).status_code == 200
    assert (await practice.book(vouchers[0]["id"], starts_at=at(6), hold=True)).status_code == 201
    await practice.require_sums()


async def test_a_hold_lapses(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    hold = await held_time(practice)
    assert await lapse_holds(transactions) == 0
    assert await lapse_holds(transactions, datetime.now(UTC) + AN_HOUR) == 1
    [row] = await database.rows("SELECT status, reason FROM reservations")
    assert tuple(row.values()) == ("cancelled", "lapsed")
    answer = await practice.act(hold, "confirm")
    assert (answer.status_code, answer.json()["code"]) == (409, "hold_lapsed")
    # The therapist is free again.
    await practice.booked(hold["voucher_id"], starts_at=at(3), therapist_id=THERAPIST)
    await practice.require_sums()
    event = next(
        event
        for event in await database.events()
        if event["type"] == "vouchers.reservation.cancelled.v1"
    )
    assert event["data"]["new_values"]["reason"] == "lapsed"
    assert event["data"]["actor"]["role"] == "system"


async def test_a_hold_whose_time_is_over_cannot_be_confirmed_or_moved(
    practice: Practice, database: Database
) -> None:
    hold = await held_time(practice)
    async with database.admin() as admin:
        await admin.execute("UPDATE reservations SET held_until = now() - interval '1 second'")
    move = {"starts_at": at(4).isoformat(), "therapist_id": THERAPIST}
    for action, body in (("confirm", None), ("reschedule", move)):
        answer = await practice.act(hold, action, body=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "hold_lapsed")
    # It does not count any more.
    for days in (5, 6, 7):
        await practice.booked(hold["voucher_id"], starts_at=at(days), hold=True)


async def test_managers_approve_requests(practice: Practice) -> None:
    request = await requested_time(practice)
    people = practice.people
    callers: dict[str, Headers] = {"client": people.client, "therapist": people.therapist}
    for name, headers in callers.items():
        assert (await practice.act(request, "confirm", headers)).status_code == 403, name
    assert (await practice.act(request, "confirm", people.second_client)).status_code == 404
    approved = await practice.act(request, "confirm", people.owner)
    assert (approved.status_code, approved.json()["status"]) == (200, "booked")
    await practice.require_sums()


async def test_a_request_is_declined(practice: Practice, database: Database) -> None:
    request = await requested_time(practice)
    declined = await practice.act(request, "cancel", practice.people.owner)
    assert (declined.json()["status"], declined.json()["reason"]) == ("cancelled", "declined")
    answer = await practice.act(request, "confirm", practice.people.owner)
    assert answer.json()["code"] == "reservation_settled"
    await practice.require_sums()


async def test_a_request_lapses_when_its_session_begins(
    practice: Practice, transactions: Transactions
) -> None:
    request = await requested_time(practice)
    start = datetime.fromisoformat(request["starts_at"])
    assert await lapse_holds(transactions, start - timedelta(seconds=1)) == 0
    assert await lapse_holds(transactions, start) == 1
    await practice.require_sums()


async def test_a_moved_request_is_held_until_the_new_start(practice: Practice) -> None:
    request = await requested_time(practice)
    path = f"/api/sessions/{request['session_id']}"
    body = {"starts_at": at(3, 12).isoformat()}
    answer = await practice.client.put(path, json=body, headers=practice.people.owner)
    assert answer.status_code == 200, answer.text
    path = f"/api/reservations/{request['id']}"
    moved = (await practice.client.get(path, headers=practice.people.client)).json()
    assert datetime.fromisoformat(moved["held_until"]) == at(3, 12)


async def test_an_approved_reservation_that_the_client_moves_is_requested_again(
    practice: Practice,
) -> None:
    request = await requested_time(practice)
    owner = practice.people.owner
    assert (await practice.act(request, "confirm", owner)).json()["status"] == "booked"
    wish = {"starts_at": at(5).isoformat(), "therapist_id": THERAPIST}
    moved = (await practice.act(request, "reschedule", body=wish)).json()
    assert (moved["status"], moved["held_for"]) == ("held", "approval")
    assert moved["held_until"] == moved["starts_at"]
    assert (await practice.act(request, "confirm", owner)).json()["status"] == "booked"
    wish["starts_at"] = at(6).isoformat()
    moved = (await practice.act(request, "reschedule", owner, wish)).json()
    assert moved["status"] == "booked", "the organization approves what it moves itself"
    await practice.require_sums()


async def test_a_move_by_the_client_prolongs_no_hold(
    practice: Practice, database: Database
) -> None:
    hold = await held_time(practice)
    async with database.admin() as admin:
        # As for a session that begins before the minutes of the booking policy are over.
        await admin.execute("UPDATE reservations SET held_until = starts_at")
    wish = {"starts_at": at(5).isoformat(), "therapist_id": THERAPIST}
    moved = await practice.act(hold, "reschedule", body=wish)
    assert moved.status_code == 200, moved.text
    assert datetime.fromisoformat(moved.json()["starts_at"]) == at(5)
    assert datetime.fromisoformat(moved.json()["held_until"]) == at(3)


async def test_a_confirmed_hold_still_needs_the_approval(practice: Practice) -> None:
    hold = await held_time(practice, booking_policy={"approval": True})
    confirmed = (await practice.act(hold, "confirm")).json()
    assert (confirmed["status"], confirmed["held_for"]) == ("held", "approval")
    assert confirmed["held_until"] == confirmed["starts_at"]
    approved = (await practice.act(hold, "confirm", practice.people.owner)).json()
    assert approved["status"] == "booked"


async def test_a_disputed_voucher_confirms_nothing(practice: Practice, database: Database) -> None:
    hold = await held_time(practice)
    async with database.admin() as admin:
        await admin.execute("UPDATE vouchers SET disputed_at = now()")
    answer = await practice.act(hold, "confirm")
    assert (answer.status_code, answer.json()["code"]) == (409, "voucher_disputed")
