"""Booking settings, resources, hours and closures; the slots that they leave; sessions."""

from datetime import datetime
from typing import Any

import pytest

from services.vouchers.service.therapists import add_missing_therapists
from services.vouchers.tests.outside import ORGANIZATION
from services.vouchers.tests.practice import HOME, THERAPIST, Practice, at, send
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def slots(practice: Practice, voucher: dict[str, Any], first: int, last: int) -> list[Any]:
    """Return what a voucher can book on some days from today."""
    days = f"from={at(first).date()}&until={at(last).date()}"
    path = f"/api/vouchers/{voucher['id']}/slots?{days}&limit=200"
    rows: list[Any] = await send(practice.client, "GET", path, practice.people.client)
    return rows


async def test_slots_are_what_can_be_booked(practice: Practice) -> None:
    resource = await practice.add_therapist()
    morning = [{"weekday": n, "start_time": "09:00", "end_time": "12:00"} for n in range(1, 8)]
    await practice.set_hours(resource["id"], morning)
    voucher = await practice.voucher()
    starts = [slot["starts_at"] for slot in await slots(practice, voucher, 3, 3)]
    expected = [at(3, 9), at(3, 9, 30), at(3, 10), at(3, 10, 30), at(3, 11)]
    assert [datetime.fromisoformat(start) for start in starts] == expected
    closure = {
        "resource_id": resource["id"],
        "starts_local": f"{at(3).date()}T10:00",
        "ends_local": f"{at(3).date()}T11:00",
        "reason": "Ill",
    }
    closed = await send(
        practice.client, "POST", f"{HOME}/closures", practice.people.therapist, closure
    )
    starts = [slot["starts_at"] for slot in await slots(practice, voucher, 3, 3)]
    assert [datetime.fromisoformat(start) for start in starts] == [at(3, 9), at(3, 11)]
    for start in starts:
        await practice.booked(voucher["id"], starts_at=start, override=[], therapist_id=THERAPIST)
        break
    assert await slots(practice, voucher, 3, 3) == []
    path = f"{HOME}/closures/{closed['id']}"
    await send(practice.client, "DELETE", path, practice.people.therapist)


async def test_days_of_a_month_say_why_they_are_closed(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    await practice.booked(voucher["id"], starts_at=at(3))
    path = f"/api/vouchers/{voucher['id']}/slot-days?from={at(3).date()}&until={at(4).date()}"
    taken, free = await send(practice.client, "GET", path, practice.people.client)
    assert (taken["slots"], taken["closed_by"]) == (0, "frequency_reached")
    assert (free["slots"], free["closed_by"]) == (23, None)
    assert datetime.fromisoformat(free["first_starts_at"]) == at(4, 8)


async def test_slots_before_the_purchase(practice: Practice) -> None:
    await practice.add_therapist()
    kind = await practice.type()
    path = f"/api/voucher-types/{kind['id']}/slots?from={at(2).date()}&until={at(2).date()}"
    for headers in (practice.people.client, practice.people.free_client):
        assert len(await send(practice.client, "GET", path, headers)) == 23
    answer = await practice.client.get(path, headers=practice.people.other_client)
    assert (answer.status_code, answer.json()["code"]) == (404, "voucher_type_not_found")


async def test_pages_of_slots(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    path = f"/api/vouchers/{voucher['id']}/slots?from={at(2).date()}&until={at(2).date()}&limit=20"
    answer = await practice.client.get(path, headers=practice.people.client)
    link = answer.headers["link"].partition(">")[0].lstrip("<")
    rest = await send(practice.client, "GET", link, practice.people.client)
    assert (len(answer.json()), len(rest)) == (20, 3)
    assert rest[0]["starts_at"] > answer.json()[-1]["starts_at"]


async def test_new_hours_list_the_reservations_outside(practice: Practice) -> None:
    resource = await practice.add_therapist()
    voucher = await practice.voucher()
    reservation = await practice.booked(voucher["id"], starts_at=at(3))
    result = await practice.set_hours(resource["id"], [])
    assert [row["reservation_id"] for row in result["conflicts"]] == [reservation["id"]]
    assert await slots(practice, voucher, 4, 5) == []


async def test_reasons_of_closures_are_confidential(practice: Practice, database: Database) -> None:
    resource = await practice.add_therapist()
    body = {
        "resource_id": resource["id"],
        "starts_local": "2030-01-07T08:00",
        "ends_local": "2030-01-08T00:00",
        "reason": "Surgery",
    }
    people = practice.people
    created = await send(practice.client, "POST", f"{HOME}/closures", people.owner, body)
    assert created["reason"] == "Surgery"
    event = (await database.events())[-1]
    assert event["type"] == "vouchers.closure.created.v1"
    assert "Surgery" not in str(event)
    [for_staff] = await send(practice.client, "GET", f"{HOME}/closures", people.staff)
    assert for_staff["reason"] is None
    [for_owner] = await send(practice.client, "GET", f"{HOME}/closures", people.therapist)
    assert for_owner["reason"] == "Surgery"
    answer = await practice.client.get(f"{HOME}/closures", headers=people.client)
    assert answer.status_code == 403


async def test_a_room_holds_one_session_at_a_time(practice: Practice) -> None:
    await practice.add_therapist()
    people = practice.people
    body = {"kind": "room", "name": "Blue room", "buffer_after_minutes": 15}
    room = await send(practice.client, "POST", f"{HOME}/resources", people.owner, body)
    plan = {"duration_minutes": 60, "capacity": 3, "resource_ids": [room["id"]]}
    await practice.session(starts_at=at(3), **plan)
    for minute, status in ((0, 409), (10, 409), (15, 201)):
        body = {**plan, "starts_at": at(3, 11, minute).isoformat()}
        answer = await practice.client.post(f"{HOME}/sessions", json=body, headers=people.owner)
        assert answer.status_code == status, answer.text
        assert status == 201 or answer.json()["code"] == "room_taken"
    path = f"{HOME}/resources/{room['id']}"
    answer = await practice.client.put(path, json={"is_active": False}, headers=people.owner)
    assert (answer.status_code, answer.json()["code"]) == (409, "resource_in_use")


async def test_a_class_gives_its_sessions_what_they_do_not_state(practice: Practice) -> None:
    await practice.add_therapist()
    people = practice.people
    body = {"name": "Yoga", "duration_minutes": 90, "capacity": 8, "therapist_id": THERAPIST}
    lesson = await send(practice.client, "POST", f"{HOME}/classes", people.owner, body)
    session = await practice.session(starts_at=at(3), therapy_class_id=lesson["id"])
    assert (session["name"], session["seats_left"], session["therapist_id"]) == ("Yoga", 8, 12)
    seen = await send(practice.client, "GET", f"/api/sessions/{session['id']}", people.client)
    assert (seen["participants"], seen["notes"]) == (None, None)
    stretch = f"from={at(2).isoformat()}&until={at(5).isoformat()}".replace("+", "%2B")
    rows = await send(practice.client, "GET", f"{HOME}/sessions?{stretch}", people.client)
    assert [row["id"] for row in rows] == [session["id"]]


async def test_a_session_moves_with_everybody(practice: Practice, database: Database) -> None:
    await practice.add_therapist()
    kind = await practice.type(max_clients_per_session=4, frequency="weekly")
    people = practice.people
    voucher = await practice.voucher_of(people.client, kind["id"])
    plan = {"duration_minutes": 60, "capacity": 4, "therapist_id": THERAPIST}
    session = await practice.session(starts_at=at(3), **plan)
    reservation = await practice.booked(voucher["id"], session_id=session["id"])
    path = f"/api/sessions/{session['id']}"
    body = {"starts_at": at(12, 14).isoformat()}
    moved = await send(practice.client, "PUT", path, people.therapist, body)
    assert datetime.fromisoformat(moved["starts_at"]) == at(12, 14)
    [row] = await database.rows("SELECT * FROM reservations")
    assert row["starts_at"] == at(12, 14)
    own = await send(
        practice.client, "GET", f"/api/reservations/{reservation['id']}", people.client
    )
    assert datetime.fromisoformat(own["starts_at"]) == at(12, 14)
    types = [event["type"] for event in (await database.events())[-2:]]
    assert sorted(types) == ["vouchers.reservation.rescheduled.v1", "vouchers.session.moved.v1"]
    answer = await practice.client.put(path, json={"capacity": 1}, headers=people.owner)
    assert answer.status_code == 200
    cancelled = await send(practice.client, "POST", f"{path}/cancel", people.owner)
    assert cancelled["status"] == "cancelled"
    [row] = await database.rows("SELECT * FROM reservations")
    assert (row["status"], row["reason"]) == ("cancelled", "session_cancelled")
    await practice.require_sums()


async def test_therapists_are_resources_without_an_event(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    async with database.admin() as admin:
        await admin.execute(
            "INSERT INTO client_copies (id, version, name, role, organization_id, is_active)"
            " SELECT n, 1, 'T', CASE n WHEN 51 THEN 'staff' ELSE 'therapist' END, $1, n <> 52"
            " FROM generate_series(50, 53) n",
            ORGANIZATION,
        )
    assert await add_missing_therapists(transactions) == 2
    assert await add_missing_therapists(transactions) == 0
    rows = await send(practice.client, "GET", f"{HOME}/resources", practice.people.client)
    assert sorted(row["user_id"] for row in rows) == [50, 53]
