"""Booking a session, what refuses it, and what it leaves behind."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from services.vouchers.tests.outside import CLIENT, ORGANIZATION
from services.vouchers.tests.people import People
from services.vouchers.tests.practice import (
    HOME,
    SECOND_THERAPIST,
    THERAPIST,
    Practice,
    at,
    send,
)
from shared.testing import Database

pytestmark = pytest.mark.anyio


async def test_a_booking_earmarks_a_session_and_the_therapists_time(
    practice: Practice, database: Database
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    before = len(await database.events())
    reservation = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    assert (reservation["status"], reservation["client_id"]) == ("booked", CLIENT)
    assert datetime.fromisoformat(reservation["starts_at"]) == at(3)
    assert reservation["starts_at"].endswith(("+01:00", "+02:00"))
    assert reservation["timezone"] == "Europe/Warsaw"
    assert datetime.fromisoformat(reservation["free_until"]) == at(3) - timedelta(days=1)
    assert (reservation["bookable_sessions"], reservation["booked_sessions"]) == (9, 1)
    assert reservation["regular_sessions_left"] == 10
    [occupation] = await database.rows("SELECT * FROM occupations")
    assert occupation["session_id"] == reservation["session_id"]
    await practice.require_sums()
    types = [event["type"] for event in (await database.events())[before:]]
    assert types == ["vouchers.session.created.v1", "vouchers.reservation.booked.v1"]


async def test_a_time_that_is_taken_is_refused_with_the_next_ones(practice: Practice) -> None:
    await practice.add_therapist()
    kind = await practice.type()
    first = await practice.voucher_of(practice.people.client, kind["id"])
    second = await practice.voucher_of(practice.people.second_client, kind["id"])
    await practice.booked(first["id"], starts_at=at(3), therapist_id=THERAPIST)
    answer = await practice.book(
        second["id"],
        practice.people.second_client,
        starts_at=at(3, 10, 30),
        therapist_id=THERAPIST,
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "slot_taken")
    [reason] = answer.json()["reasons"]
    assert (reason["code"], reason["overridable"]) == ("slot_taken", False)
    starts = [slot["starts_at"] for slot in answer.json()["next_slots"]]
    expected = [at(3, 11), at(3, 11, 30), at(3, 12)]
    assert [datetime.fromisoformat(start) for start in starts] == expected
    await practice.require_sums()


async def test_every_reason_is_reported_at_once(practice: Practice) -> None:
    await practice.add_therapist(hours=[])
    voucher = await practice.voucher(frequency="weekly", booking_policy={"opens_days": 2})
    answer = await practice.client.post(
        f"/api/vouchers/{voucher['id']}/eligibility",
        json={"starts_at": at(20).isoformat(), "therapist_id": THERAPIST},
        headers=practice.people.client,
    )
    assert answer.status_code == 200
    assert not answer.json()["eligible"]
    codes = [reason["code"] for reason in answer.json()["reasons"]]
    assert codes == ["too_early", "therapist_unavailable"]


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "off the grid": ({"starts_at": at(3, 10, 10)}, 409, "start_off_grid"),
    "in the past": ({"starts_at": at(-1)}, 409, "voucher_not_yet_valid"),
    "no therapist": ({"starts_at": at(3), "therapist_id": 99}, 409, "therapist_unavailable"),
    "at night": ({"starts_at": at(3, 3)}, 409, "therapist_unavailable"),
    "no session": ({"session_id": 999_999}, 404, "session_not_found"),
    "nothing": ({}, 422, "invalid_request"),
    "both": ({"session_id": 1, "starts_at": at(3)}, 422, "invalid_request"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_booked_has_its_own_code(practice: Practice, case: str) -> None:
    choice, status, code = REFUSED[case]
    await practice.add_therapist()
    voucher = await practice.voucher()
    answer = await practice.book(voucher["id"], **choice)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    await practice.require_sums()


async def test_a_manager_overrides_and_says_why(practice: Practice, database: Database) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(frequency="weekly")
    monday = at(8 - at(0).isoweekday() + 7)
    days = (monday - at(0)).days
    await practice.booked(voucher["id"], starts_at=at(days), therapist_id=THERAPIST)
    choice: dict[str, Any] = {"starts_at": at(days + 1), "therapist_id": THERAPIST}
    answer = await practice.book(voucher["id"], **choice)
    assert (answer.status_code, answer.json()["code"]) == (409, "frequency_reached")
    choice |= {"override": ["frequency_reached"], "override_reason": "Exam in two days"}
    assert (await practice.book(voucher["id"], **choice)).status_code == 403
    second = await practice.booked(voucher["id"], practice.people.owner, **choice)
    assert second["overrides"] == ["frequency_reached"]
    choice |= {"override": ["slot_taken"]}
    answer = await practice.book(voucher["id"], practice.people.owner, **choice)
    assert answer.status_code == 422
    event = (await database.events())[-1]
    assert event["data"]["new_values"]["override_reason"] == "Exam in two days"


async def test_any_therapist_means_the_least_booked_one(practice: Practice) -> None:
    await practice.add_therapist()
    await practice.add_therapist(SECOND_THERAPIST)
    voucher = await practice.voucher()
    therapists = [
        (await practice.booked(voucher["id"], starts_at=at(days)))["therapist_id"]
        for days in (7, 8)
    ]
    assert sorted(therapists) == [THERAPIST, SECOND_THERAPIST] or at(7).isoweekday() == 7


async def test_therapists_book_into_their_own_sessions_only(practice: Practice) -> None:
    await practice.add_therapist()
    await practice.add_therapist(SECOND_THERAPIST)
    voucher = await practice.voucher()
    own, other = ({"starts_at": at(3), "therapist_id": t} for t in (THERAPIST, SECOND_THERAPIST))
    assert (
        await practice.book(voucher["id"], practice.people.therapist, **other)
    ).status_code == 403
    assert (await practice.book(voucher["id"], practice.people.therapist, **own)).status_code == 201
    assert (await practice.book(voucher["id"], practice.people.staff, **other)).status_code == 403


async def test_clients_do_not_book_where_the_organization_does(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    path = f"{HOME}/booking-settings"
    settings = await send(
        practice.client, "PUT", path, practice.people.owner, {"clients_book": False}
    )
    assert (settings["clients_book"], settings["version"]) == (False, 1)
    answer = await practice.book(voucher["id"], starts_at=at(3))
    assert answer.status_code == 403
    await practice.booked(voucher["id"], practice.people.owner, starts_at=at(3))


async def test_approval_holds_the_time(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(booking_policy={"approval": True})
    reservation = await practice.booked(voucher["id"], starts_at=at(3))
    assert (reservation["status"], reservation["held_for"]) == ("held", "approval")
    assert reservation["held_until"] == reservation["starts_at"]
    await practice.require_sums()


async def test_another_tenant_sees_nothing(practice: Practice, people: People) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    reservation = await practice.booked(voucher["id"], starts_at=at(3))
    for path in (
        f"/api/reservations/{reservation['id']}",
        f"/api/sessions/{reservation['session_id']}",
        f"/api/vouchers/{voucher['id']}/reservations",
        f"{HOME}/reservations",
        f"{HOME}/resources",
    ):
        for headers in (people.other_client, people.other_owner):
            answer = await practice.client.get(path, headers=headers)
            assert answer.status_code == 404, (path, answer.text)
    # Of one organization, but not of this client.
    for path in (
        f"/api/reservations/{reservation['id']}",
        f"/api/sessions/{reservation['session_id']}",
    ):
        answer = await practice.client.get(path, headers=people.second_client)
        assert answer.status_code == 404


async def test_own_and_the_organizations_lists(practice: Practice, people: People) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    ids = [(await practice.booked(voucher["id"], starts_at=at(days)))["id"] for days in (2, 3)]
    own = await send(practice.client, "GET", "/api/reservations/my", people.client)
    assert [row["id"] for row in own] == ids[::-1]
    assert await send(practice.client, "GET", "/api/reservations/my", people.second_client) == []
    for headers in (people.owner, people.therapist):
        rows = await send(practice.client, "GET", f"{HOME}/reservations", headers)
        assert [row["id"] for row in rows] == ids[::-1]
    answer = await practice.client.get(f"{HOME}/reservations", headers=people.client)
    assert answer.status_code == 403
    assert {row["organization_id"] for row in own} == {ORGANIZATION}
