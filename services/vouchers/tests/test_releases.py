"""Reservations that are released because their voucher ends, is refunded or frozen."""

import asyncio
from typing import Any

import httpx
import pytest

from services.vouchers.tests.events import deliver, dispute, refund
from services.vouchers.tests.outside import Payments
from services.vouchers.tests.practice import THERAPIST, Practice, at, send
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def booked_days(
    practice: Practice, *days: int, **terms: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Book a session on each of some days; return the voucher and its reservations."""
    await practice.add_therapist()
    voucher = await practice.voucher(**{"total_sessions": 4, **terms})
    reservations = [
        await practice.booked(voucher["id"], starts_at=at(day), therapist_id=THERAPIST)
        for day in days
    ]
    return voucher, reservations


async def states(database: Database) -> list[tuple[str, str | None]]:
    """Return the state and the reason of every reservation, in the order of their sessions."""
    rows = await database.rows("SELECT status, reason FROM reservations ORDER BY starts_at")
    return [(row["status"], row["reason"]) for row in rows]


async def quoted(practice: Practice, voucher_id: int, **body: Any) -> dict[str, Any]:
    """Request a refund quote; return it."""
    path = f"/api/vouchers/{voucher_id}/refund-quote"
    result: dict[str, Any] = await send(
        practice.client, "POST", path, practice.people.owner, body or None
    )
    return result


async def refunded(practice: Practice, quote: dict[str, Any]) -> dict[str, Any]:
    """Refund a quote; return the refund."""
    path = f"/api/vouchers/{quote['voucher_id']}/refunds"
    result: dict[str, Any] = await send(
        practice.client, "POST", path, practice.people.owner, {"quote_id": quote["id"]}
    )
    return result


async def test_a_cancelled_voucher_releases_its_reservations(
    practice: Practice, database: Database
) -> None:
    voucher, reservations = await booked_days(practice, 2, 3)
    path = f"/api/vouchers/{voucher['id']}/cancel"
    cancelled = await send(practice.client, "POST", path, practice.people.owner)
    assert (cancelled["status"], cancelled["booked_sessions"]) == ("cancelled", 0)
    assert await states(database) == [("cancelled", "voucher_cancelled")] * 2
    assert await database.rows("SELECT * FROM occupations") == []
    await practice.require_sums()
    subjects = [
        event["subject"]
        for event in await database.events()
        if event["type"] == "vouchers.reservation.cancelled.v1"
    ]
    assert subjects == [f"reservation/{row['id']}" for row in reversed(reservations)]


async def test_a_session_that_has_begun_is_still_marked(
    practice: Practice, database: Database
) -> None:
    voucher, [begun, _] = await booked_days(practice, 2, 3)
    await practice.begin(begun)
    path = f"/api/vouchers/{voucher['id']}/cancel"
    await send(practice.client, "POST", path, practice.people.owner)
    assert [status for status, _ in await states(database)] == ["booked", "cancelled"]
    path = f"/api/reservations/{begun['id']}/attend"
    await send(practice.client, "POST", path, practice.people.therapist)
    [row] = await database.rows("SELECT status, used_sessions FROM vouchers")
    assert tuple(row.values()) == ("cancelled", 1)
    await practice.require_sums()


async def test_a_lost_dispute_releases_the_reservations(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    voucher, _ = await booked_days(practice, 2, 3)
    await deliver(transactions, dispute("closed", voucher["id"], 1, "lost"))
    assert await states(database) == [("cancelled", "voucher_cancelled")] * 2
    await practice.require_sums()


async def test_a_quote_names_the_reservations_that_its_refund_cancels(
    practice: Practice, database: Database
) -> None:
    voucher, reservations = await booked_days(practice, 2, 4, 3)
    assert (await quoted(practice, voucher["id"], sessions=1))["releases"] == []
    quote = await quoted(practice, voucher["id"], sessions=2)
    assert (quote["unused_sessions"], quote["sessions"]) == (4, 2)
    [released] = quote["releases"]
    assert (released["id"], released["starts_at"]) == (
        reservations[1]["id"],
        reservations[1]["starts_at"],
    )
    await refunded(practice, quote)
    assert [status for status, _ in await states(database)] == ["booked", "booked", "cancelled"]
    assert (await states(database))[2][1] == "refunded"
    [row] = await database.rows("SELECT booked_sessions, refunded_sessions FROM vouchers")
    assert tuple(row.values()) == (2, 2)
    await practice.require_sums()


async def test_a_client_sees_what_a_refund_would_cancel(practice: Practice) -> None:
    voucher, [reservation] = await booked_days(practice, 2)
    path = f"/api/vouchers/{voucher['id']}/refund-quote"
    quote = await send(practice.client, "POST", path, practice.people.client)
    assert [row["id"] for row in quote["releases"]] == [reservation["id"]]


async def test_a_refund_of_everything_releases_everything(
    practice: Practice, database: Database
) -> None:
    voucher, _ = await booked_days(practice, 2, 3)
    await refunded(practice, await quoted(practice, voucher["id"]))
    assert await states(database) == [("cancelled", "refunded")] * 2
    [row] = await database.rows("SELECT status, booked_sessions FROM vouchers")
    assert tuple(row.values()) == ("cancelled", 0)
    await practice.require_sums()


@pytest.mark.parametrize(("amount", "left"), [("199.99", 2), ("299.99", 1), ("399.99", 0)])
async def test_money_that_goes_back_without_a_quote_takes_the_latest_sessions(
    practice: Practice,
    database: Database,
    transactions: Transactions,
    amount: str,
    left: int,
) -> None:
    voucher, _ = await booked_days(practice, 2, 3)
    await deliver(transactions, refund(voucher["id"], amount))
    statuses = [status for status, _ in await states(database)]
    assert statuses == ["booked"] * left + ["cancelled"] * (2 - left)
    await practice.require_sums()


async def test_a_refund_that_fails_restores_the_sessions_and_no_reservation(
    practice: Practice, database: Database, payments: Payments
) -> None:
    voucher, _ = await booked_days(practice, 2, 3)
    payments.refund_status = "failed"
    quote = await quoted(practice, voucher["id"])
    answer = await practice.client.post(
        f"/api/vouchers/{voucher['id']}/refunds",
        json={"quote_id": quote["id"]},
        headers=practice.people.owner,
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "refund_refused")
    assert [status for status, _ in await states(database)] == ["cancelled"] * 2
    [row] = await database.rows("SELECT booked_sessions, refunded_sessions FROM vouchers")
    assert tuple(row.values()) == (0, 0)
    await practice.booked(voucher["id"], starts_at=at(2), therapist_id=THERAPIST)
    await practice.require_sums()


async def _adjust(
    practice: Practice, voucher: dict[str, Any], path: str, **body: Any
) -> httpx.Response:
    return await practice.client.post(
        f"/api/vouchers/{voucher['id']}/{path}", json=body or None, headers=practice.people.owner
    )


async def test_a_freeze_over_reservations_names_them(
    practice: Practice, database: Database
) -> None:
    voucher, reservations = await booked_days(practice, 2, 3, 5)
    days = {"starts_on": at(3).date().isoformat(), "ends_on": at(4).date().isoformat()}
    answer = await _adjust(practice, voucher, "freezes", **days, reason="Holiday")
    assert (answer.status_code, answer.json()["code"]) == (409, "reservations_in_freeze")
    [row] = answer.json()["reservations"]
    assert (row["id"], row["starts_at"]) == (reservations[1]["id"], reservations[1]["starts_at"])
    assert [status for status, _ in await states(database)] == ["booked"] * 3
    released = {"reason": "Holiday", "release_reservations": True}
    answer = await _adjust(practice, voucher, "freezes", **days, **released)
    assert (answer.status_code, answer.json()["days"]) == (201, 2), answer.text
    assert await states(database) == [
        ("booked", None),
        ("cancelled", "voucher_frozen"),
        ("booked", None),
    ]
    await practice.require_sums()


async def test_the_first_and_the_last_hour_of_a_day_are_of_the_freeze(
    practice: Practice,
) -> None:
    hours = [
        {"weekday": weekday, "start_time": "00:00", "end_time": "24:00"} for weekday in range(1, 8)
    ]
    await practice.add_therapist(hours=hours)
    voucher = await practice.voucher()
    day = at(3).date().isoformat()
    for hour in (0, 23):
        reservation = await practice.booked(voucher["id"], starts_at=at(3, hour))
        answer = await _adjust(
            practice, voucher, "freezes", starts_on=day, ends_on=day, reason="Holiday"
        )
        assert answer.json()["code"] == "reservations_in_freeze", hour
        path = f"/api/reservations/{reservation['id']}/cancel"
        await send(practice.client, "POST", path, practice.people.client)
    neighbours = (at(2, 23), at(4, 0))
    for starts_at in neighbours:
        await practice.booked(voucher["id"], starts_at=starts_at)
    answer = await _adjust(
        practice, voucher, "freezes", starts_on=day, ends_on=day, reason="Holiday"
    )
    assert answer.status_code == 201, answer.text


async def test_an_extension_with_a_booked_session_is_not_taken_back(practice: Practice) -> None:
    terms = {"validity_days": 5, "booking_policy": {"opens_days": 60}}
    voucher, _ = await booked_days(practice, 2, **terms)
    until = at(10).date().isoformat()
    extension = await _adjust(practice, voucher, "extensions", valid_until=until, reason="Courtesy")
    assert extension.status_code == 201, extension.text
    beyond = await practice.booked(voucher["id"], starts_at=at(8), therapist_id=THERAPIST)
    path = f"adjustments/{extension.json()['id']}/reverse"
    answer = await _adjust(practice, voucher, path)
    assert (answer.status_code, answer.json()["code"]) == (409, "sessions_beyond_validity")
    assert [row["id"] for row in answer.json()["reservations"]] == [beyond["id"]]
    cancel = f"/api/reservations/{beyond['id']}/cancel"
    await send(practice.client, "POST", cancel, practice.people.client)
    assert (await _adjust(practice, voucher, path)).status_code == 200


async def test_vouchers_of_the_same_sessions_end_at_once(practice: Practice) -> None:
    await practice.add_therapist()
    kind, people = await practice.type(max_clients_per_session=2), practice.people
    sessions = [
        await practice.session(
            starts_at=at(day), duration_minutes=60, capacity=2, therapist_id=THERAPIST
        )
        for day in (2, 3, 4)
    ]
    vouchers = []
    # Each books in another order than the other: the sessions are locked in the order of their ids.
    for headers, order in ((people.client, 1), (people.second_client, -1)):
        voucher = await practice.voucher_of(headers, kind["id"])
        for session in sessions[::order]:
            await practice.booked(voucher["id"], headers, session_id=session["id"])
        vouchers.append(voucher)
    answers = await asyncio.gather(
        *(
            practice.client.post(f"/api/vouchers/{voucher['id']}/cancel", headers=people.owner)
            for voucher in vouchers
        )
    )
    assert [answer.status_code for answer in answers] == [200, 200]
    path = f"/api/sessions/{sessions[0]['id']}"
    left = await send(practice.client, "GET", path, people.owner)
    # A session of the organization stays, empty or not.
    assert (left["status"], left["seats_left"]) == ("scheduled", 2)
    await practice.require_sums()
