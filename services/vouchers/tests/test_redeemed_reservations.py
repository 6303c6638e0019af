"""Redemptions that settle reservations, and reversals that open them again."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from services.vouchers.tests.people import redeem, sold_earlier
from services.vouchers.tests.practice import SECOND_THERAPIST, THERAPIST, ZONE, Practice, at, send
from shared.testing import Database

pytestmark = pytest.mark.anyio


YESTERDAY = at(-1).date().isoformat()


async def begun_session(practice: Practice, database: Database, **terms: Any) -> dict[str, Any]:
    """Book a session with a voucher that is two days old, and let it have been yesterday at ten.

    Return the reservation.
    """
    await practice.add_therapist()
    voucher = await practice.voucher(**terms)
    reservation = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    await sold_earlier(database, voucher, 2)
    await practice.begin(reservation, at(-1))
    return reservation


async def shown(practice: Practice, reservation: dict[str, Any]) -> dict[str, Any]:
    """Return a reservation as the owner sees it."""
    path = f"/api/reservations/{reservation['id']}"
    result: dict[str, Any] = await send(practice.client, "GET", path, practice.people.owner)
    return result


async def reverse(practice: Practice, redemption: dict[str, Any]) -> dict[str, Any]:
    """Reverse a redemption; return the reversal."""
    path = f"/api/vouchers/{redemption['voucher_id']}/redemptions/{redemption['id']}/reverse"
    result: dict[str, Any] = await send(practice.client, "POST", path, practice.people.owner)
    return result


async def test_a_code_settles_the_reservation_of_the_day(
    practice: Practice, database: Database
) -> None:
    reservation = await begun_session(practice, database)
    codes = await database.rows("SELECT code FROM voucher_codes WHERE NOT is_backup ORDER BY id")
    answer = await redeem(
        practice.client,
        practice.people.manager,
        reservation["voucher_id"],
        code=codes[4]["code"],
        session_date=YESTERDAY,
        note="Arrived late",
    )
    assert answer.status_code == 201, answer.text
    redemption = answer.json()
    assert (redemption["reservation_id"], redemption["code"]) == (
        reservation["id"],
        codes[4]["code"],
    )
    # Who redeemed it is in the event; the ledger names who gave the session.
    assert (redemption["therapist_id"], redemption["note"]) == (THERAPIST, "Arrived late")
    assert redemption["regular_sessions_left"] == 9
    marked = await shown(practice, reservation)
    assert (marked["status"], marked["redemption_id"]) == ("attended", redemption["id"])
    assert (marked["attestation"], marked["is_attested"]) == ("code", True)
    [row] = await database.rows("SELECT code FROM voucher_codes WHERE is_used")
    assert row["code"] == codes[4]["code"]
    [event] = [
        event
        for event in await database.events()
        if event["type"] == "vouchers.reservation.attended.v1"
    ]
    assert event["data"]["actor"]["user_id"] == 14
    await practice.require_sums()


async def test_the_last_session_is_redeemed_though_it_is_booked(
    practice: Practice, database: Database
) -> None:
    reservation = await begun_session(practice, database, total_sessions=1)
    answer = await redeem(
        practice.client,
        practice.people.therapist,
        reservation["voucher_id"],
        session_date=YESTERDAY,
    )
    assert (answer.status_code, answer.json()["voucher_status"]) == (201, "completed")
    assert (await shown(practice, reservation))["attestation"] == "staff"
    await practice.require_sums()


REASONS: dict[str, tuple[str, dict[str, str], tuple[int, int]]] = {
    "missed": ("no_show", {"kind": "backup"}, (10, 1)),
    "late_cancelled": ("late_cancelled", {}, (9, 2)),
}


@pytest.mark.parametrize("reason", REASONS)
async def test_the_reason_of_a_redemption_is_the_state_of_the_reservation(
    practice: Practice, database: Database, reason: str
) -> None:
    status, order, left = REASONS[reason]
    reservation = await begun_session(practice, database)
    answer = await redeem(
        practice.client,
        practice.people.therapist,
        reservation["voucher_id"],
        session_date=YESTERDAY,
        reason=reason,
        **order,
    )
    assert answer.status_code == 201, answer.text
    marked = await shown(practice, reservation)
    assert (marked["status"], marked["attestation"]) == (status, None)
    assert (marked["regular_sessions_left"], marked["backup_sessions_left"]) == left
    await practice.require_sums()


async def test_of_several_reservations_one_is_named(practice: Practice, database: Database) -> None:
    reservation = await begun_session(practice, database)
    await practice.add_therapist(SECOND_THERAPIST)
    second = await practice.booked(
        reservation["voucher_id"], starts_at=at(5), therapist_id=SECOND_THERAPIST
    )
    other = await practice.booked(reservation["voucher_id"], starts_at=at(7))
    await practice.begin(second, at(-1, 12))
    order: dict[str, Any] = {"session_date": YESTERDAY}
    therapist, voucher_id = practice.people.therapist, reservation["voucher_id"]
    answer = await redeem(practice.client, therapist, voucher_id, **order)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "reservation_id")
    for number, status, code in (
        (other["id"], 422, "invalid_request"),
        (999_999, 404, "reservation_not_found"),
        (second["id"], 201, None),
        (second["id"], 409, "reservation_settled"),
    ):
        answer = await redeem(
            practice.client, therapist, voucher_id, **order, reservation_id=number
        )
        assert answer.status_code == status, answer.text
        field, value = ("code", code) if code else ("therapist_id", SECOND_THERAPIST)
        assert answer.json()[field] == value
    assert (await shown(practice, reservation))["status"] == "booked"
    await practice.require_sums()


async def test_a_reservation_of_another_voucher_is_not_settled(
    practice: Practice, database: Database
) -> None:
    reservation = await begun_session(practice, database)
    other = await practice.voucher()
    await sold_earlier(database, other, 2)
    answer = await redeem(
        practice.client,
        practice.people.therapist,
        other["id"],
        session_date=YESTERDAY,
        reservation_id=reservation["id"],
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "reservation_not_found")


async def test_a_future_day_is_not_redeemed(practice: Practice) -> None:
    voucher = await practice.voucher()
    tomorrow = (datetime.now(ZONE).date() + timedelta(days=1)).isoformat()
    answer = await redeem(
        practice.client, practice.people.therapist, voucher["id"], session_date=tomorrow
    )
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "session_date")


@pytest.mark.parametrize("sessions", [1, 10])
async def test_a_reversal_books_the_reservation_again(
    practice: Practice, database: Database, sessions: int
) -> None:
    reservation = await begun_session(practice, database, total_sessions=sessions)
    therapist, voucher_id = practice.people.therapist, reservation["voucher_id"]
    redemption = (
        await redeem(practice.client, therapist, voucher_id, session_date=YESTERDAY)
    ).json()
    reversal = await reverse(practice, redemption)
    assert reversal["reservation_id"] == reservation["id"]
    again = await shown(practice, reservation)
    assert (again["status"], again["redemption_id"], again["attestation"]) == ("booked", None, None)
    [row] = await database.rows("SELECT status, used_sessions, booked_sessions FROM vouchers")
    assert tuple(row.values()) == ("active", 0, 1)
    types = {event["type"] for event in await database.events()}
    assert "vouchers.reservation.reopened.v1" in types
    await practice.require_sums()
    path = f"/api/reservations/{reservation['id']}/attend"
    await send(practice.client, "POST", path, therapist, {"attestation": "signature"})
    assert (await shown(practice, reservation))["attestation"] == "signature"
    await practice.require_sums()


async def test_a_missed_session_without_a_session_left_stays_missed(
    practice: Practice, database: Database
) -> None:
    terms = {"total_sessions": 1, "backup_sessions": 1}
    reservation = await begun_session(practice, database, **terms)
    therapist, voucher_id = practice.people.therapist, reservation["voucher_id"]
    order = {"session_date": YESTERDAY, "kind": "backup", "reason": "missed"}
    redemption = (await redeem(practice.client, therapist, voucher_id, **order)).json()
    await practice.booked(voucher_id, starts_at=at(5), therapist_id=THERAPIST)
    await reverse(practice, redemption)
    assert (await shown(practice, reservation))["status"] == "no_show"
    await practice.require_sums()


async def test_a_late_cancellation_is_undone_while_the_seat_is_free(
    practice: Practice, database: Database
) -> None:
    await practice.add_therapist()
    people, kind = practice.people, await practice.type(max_clients_per_session=2)
    voucher = await practice.voucher_of(people.client, kind["id"])
    session = await practice.session(
        starts_at=at(3), duration_minutes=60, capacity=2, therapist_id=THERAPIST
    )
    reservation = await practice.booked(voucher["id"], session_id=session["id"])
    policy = {"default_policy": {"notice_minutes": 10_000}}
    path = f"/api/organizations/{voucher['organization_id']}/booking-settings"
    await send(practice.client, "PUT", path, people.owner, policy)
    path = f"/api/reservations/{reservation['id']}/cancel"
    await send(practice.client, "POST", path, people.client, {"accept_charge": True})
    [row] = await database.rows("SELECT id, voucher_id FROM redemptions")
    await reverse(practice, row)
    assert (await shown(practice, reservation))["status"] == "booked"
    await practice.require_sums()


async def test_a_late_cancellation_stays_if_the_session_is_gone(
    practice: Practice, database: Database
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(booking_policy={"notice_minutes": 10_000})
    reservation = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    path = f"/api/reservations/{reservation['id']}/cancel"
    await send(practice.client, "POST", path, practice.people.client, {"accept_charge": True})
    [row] = await database.rows("SELECT id, voucher_id FROM redemptions")
    await reverse(practice, row)
    again = await shown(practice, reservation)
    assert (again["status"], again["backup_sessions_left"]) == ("late_cancelled", 2)
    await practice.require_sums()
