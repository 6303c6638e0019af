"""What happens with a reservation: cancelled, moved, attended, missed."""

from datetime import datetime
from typing import Any

import pytest

from services.vouchers.tests.practice import HOME, THERAPIST, Practice, at, send
from shared.testing import Database

pytestmark = pytest.mark.anyio


def path_of(reservation: dict[str, Any], action: str = "") -> str:
    """Return the path of a reservation's action."""
    return f"/api/reservations/{reservation['id']}{action}"


async def booked_session(practice: Practice, **terms: Any) -> dict[str, Any]:
    """Book a session of a new voucher with a new therapist; return the reservation."""
    await practice.add_therapist()
    voucher = await practice.voucher(**terms)
    return await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)


async def test_a_cancellation_in_time_is_free(practice: Practice, database: Database) -> None:
    reservation = await booked_session(practice)
    client = practice.people.client
    price = await send(practice.client, "GET", path_of(reservation, "/cancellation"), client)
    assert (price["late"], price["charges"]) == (False, "none")
    cancelled = await send(practice.client, "POST", path_of(reservation, "/cancel"), client)
    assert cancelled["status"] == "cancelled"
    assert (cancelled["bookable_sessions"], cancelled["booked_sessions"]) == (10, 0)
    # The session was on demand: its time is free again.
    [row] = await database.rows("SELECT status FROM sessions")
    assert row["status"] == "cancelled"
    assert await database.rows("SELECT * FROM occupations") == []
    answer = await practice.client.post(path_of(reservation, "/cancel"), headers=client)
    assert (answer.status_code, answer.json()["code"]) == (409, "reservation_settled")
    voucher_id = reservation["voucher_id"]
    await practice.booked(voucher_id, starts_at=at(3), therapist_id=THERAPIST)
    await practice.require_sums()


CHARGES: dict[str, tuple[dict[str, Any], int, tuple[int, int]]] = {
    "backup": ({}, 2, (10, 1)),
    "regular": ({}, 0, (9, 0)),
    "regular by policy": ({"late_cancel": "regular"}, 2, (9, 2)),
    "none": ({"late_cancel": "none"}, 2, (10, 2)),
}


@pytest.mark.parametrize("case", CHARGES)
async def test_a_late_cancellation_costs_what_was_accepted(practice: Practice, case: str) -> None:
    policy, backups, left = CHARGES[case]
    terms = {"booking_policy": {**policy, "notice_minutes": 10_000}, "backup_sessions": backups}
    reservation = await booked_session(practice, **terms)
    client, path = practice.people.client, path_of(reservation, "/cancel")
    answer = await practice.client.post(path, headers=client)
    assert (answer.status_code, answer.json()["code"]) == (409, "late_cancellation")
    assert answer.json()["cancellation"]["charges"] == case.split()[0]
    cancelled = await send(practice.client, "POST", path, client, {"accept_charge": True})
    assert cancelled["status"] == "late_cancelled"
    assert (cancelled["regular_sessions_left"], cancelled["backup_sessions_left"]) == left
    assert cancelled["booked_sessions"] == 0
    await practice.require_sums()


async def test_the_organization_cancels_for_free(practice: Practice) -> None:
    terms = {"booking_policy": {"notice_minutes": 10_000}}
    reservation = await booked_session(practice, **terms)
    path = path_of(reservation, "/cancel")
    cancelled = await send(practice.client, "POST", path, practice.people.therapist)
    assert (cancelled["status"], cancelled["regular_sessions_left"]) == ("cancelled", 10)


async def test_a_reservation_is_moved_with_its_earmark(
    practice: Practice, database: Database
) -> None:
    reservation = await booked_session(practice, frequency="weekly", total_sessions=1)
    body = {"starts_at": at(3, 10, 30).isoformat(), "therapist_id": THERAPIST}
    path = path_of(reservation, "/reschedule")
    moved = await send(practice.client, "POST", path, practice.people.client, body)
    assert (moved["id"], moved["booked_sessions"]) == (reservation["id"], 1)
    assert datetime.fromisoformat(moved["starts_at"]) == at(3, 10, 30)
    assert moved["session_id"] != reservation["session_id"]
    rows = await database.rows("SELECT status FROM sessions ORDER BY id")
    assert [row["status"] for row in rows] == ["cancelled", "scheduled"]
    assert len(await database.rows("SELECT * FROM occupations")) == 1
    await practice.require_sums()
    types = [event["type"] for event in await database.events()]
    assert types.count("vouchers.reservation.rescheduled.v1") == 1


async def test_a_client_does_not_move_late(practice: Practice) -> None:
    reservation = await booked_session(practice, booking_policy={"notice_minutes": 10_000})
    body = {"starts_at": at(4).isoformat(), "therapist_id": THERAPIST}
    path = path_of(reservation, "/reschedule")
    answer = await practice.client.post(path, json=body, headers=practice.people.client)
    assert (answer.status_code, answer.json()["code"]) == (409, "notice_passed")
    await send(practice.client, "POST", path, practice.people.owner, body)


async def test_attendance_redeems_the_session(practice: Practice, database: Database) -> None:
    reservation = await booked_session(practice)
    path = path_of(reservation, "/attend")
    answer = await practice.client.post(path, headers=practice.people.therapist)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_started")
    await practice.begin(reservation)
    answer = await practice.client.post(path, headers=practice.people.client)
    assert answer.status_code == 403
    attended = await send(practice.client, "POST", path, practice.people.therapist)
    assert (attended["status"], attended["attestation"]) == ("attended", "staff")
    assert (attended["regular_sessions_left"], attended["booked_sessions"]) == (9, 0)
    [redemption] = await database.rows("SELECT * FROM redemptions")
    assert redemption["reservation_id"] == reservation["id"]
    assert (redemption["therapist_id"], redemption["kind"]) == (THERAPIST, "regular")
    [code] = await database.rows("SELECT * FROM voucher_codes WHERE is_used")
    assert code["id"] == redemption["voucher_code_id"]
    types = [event["type"] for event in (await database.events())[-2:]]
    assert sorted(types) == ["vouchers.redemption.created.v1", "vouchers.reservation.attended.v1"]
    await practice.require_sums()


async def test_a_missed_session_costs_a_backup_session_first(
    practice: Practice, database: Database
) -> None:
    reservation = await booked_session(practice)
    await practice.begin(reservation)
    path = path_of(reservation, "/no-show")
    missed = await send(practice.client, "POST", path, practice.people.owner)
    assert (missed["regular_sessions_left"], missed["backup_sessions_left"]) == (10, 1)
    [redemption] = await database.rows("SELECT * FROM redemptions")
    assert (redemption["kind"], redemption["reason"]) == ("backup", "missed")


async def test_the_last_session_completes_the_voucher(
    practice: Practice, database: Database
) -> None:
    reservation = await booked_session(practice, total_sessions=1)
    await practice.begin(reservation)
    await send(practice.client, "POST", path_of(reservation, "/attend"), practice.people.owner)
    [voucher] = await database.rows("SELECT status, booked_sessions FROM vouchers")
    assert tuple(voucher.values()) == ("completed", 0)


async def test_a_group_is_marked_whole_or_not_at_all(
    practice: Practice, database: Database
) -> None:
    await practice.add_therapist()
    kind = await practice.type(max_clients_per_session=4)
    people = practice.people
    session = await practice.session(
        starts_at=at(3), duration_minutes=60, capacity=4, therapist_id=THERAPIST
    )
    places = []
    for headers in (people.client, people.second_client):
        voucher = await practice.voucher_of(headers, kind["id"])
        places.append(await practice.booked(voucher["id"], headers, session_id=session["id"]))
    await practice.begin(places[0])
    path = f"/api/sessions/{session['id']}/attendance"
    marks = [
        {"reservation_id": places[0]["id"], "status": "attended"},
        {"reservation_id": 999_999, "status": "no_show"},
    ]
    answer = await practice.client.put(path, json={"marks": marks}, headers=people.therapist)
    assert (answer.status_code, answer.json()["code"]) == (404, "reservation_not_found")
    await practice.require_sums()
    marks[1]["reservation_id"] = places[1]["id"]
    result = await send(practice.client, "PUT", path, people.therapist, {"marks": marks})
    assert [mark["charge"] for mark in result] == ["regular", "backup"]
    [row] = await database.rows("SELECT status FROM sessions")
    assert row["status"] == "completed"
    await practice.require_sums()


async def test_unmarked_reservations_are_listed(practice: Practice) -> None:
    reservation = await booked_session(practice)
    path = f"{HOME}/reservations?unmarked=true"
    assert await send(practice.client, "GET", path, practice.people.owner) == []
    await practice.begin(reservation)
    [row] = await send(practice.client, "GET", path, practice.people.owner)
    assert row["id"] == reservation["id"]


async def test_a_walk_in_does_not_use_a_booked_session(practice: Practice) -> None:
    reservation = await booked_session(practice, total_sessions=1)
    path = f"/api/vouchers/{reservation['voucher_id']}/redemptions"
    answer = await practice.client.post(path, json={}, headers=practice.people.therapist)
    assert (answer.status_code, answer.json()["code"]) == (409, "sessions_booked")
