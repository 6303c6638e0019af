"""A session that is bought together with its voucher."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.vouchers.service import unpaid_vouchers
from services.vouchers.service.holds import lapse_holds
from services.vouchers.tests.events import deliver, payment
from services.vouchers.tests.outside import CHILD, Payments
from services.vouchers.tests.people import Headers, buy
from services.vouchers.tests.practice import HOME, THERAPIST, Practice, at, send
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def order(
    practice: Practice, headers: Headers | None = None, *, terms: dict[str, Any], **how: Any
) -> httpx.Response:
    """Buy a voucher of a new type with a session in three days; return the answer."""
    await practice.add_therapist()
    kind = await practice.type(**terms)
    wish = {"starts_at": at(3).isoformat(), "therapist_id": THERAPIST}
    return await buy(
        practice.client,
        headers or practice.people.client,
        kind["id"],
        **{"reservation": wish, **how},
    )


async def pending_order(
    practice: Practice, headers: Headers | None = None, **terms: Any
) -> dict[str, Any]:
    """Buy a voucher with a session; its payment waits for the payer's bank."""
    answer = await order(practice, headers, terms=terms, payment_token="pm_3ds")
    assert answer.status_code == 201, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def state_of(practice: Practice, sold: dict[str, Any]) -> tuple[str, str | None]:
    """Return the status of the reservation that was bought with a voucher, and its reason."""
    path = f"/api/reservations/{sold['reservation']['id']}"
    row = await send(practice.client, "GET", path, practice.people.owner)
    return row["status"], row["reason"]


async def test_what_is_paid_at_once_is_booked_at_once(
    practice: Practice, database: Database
) -> None:
    answer = await order(practice, terms={"frequency": "biweekly"})
    assert answer.status_code == 201, answer.text
    sold = answer.json()
    assert (sold["status"], sold["booked_sessions"], len(sold["codes"])) == ("active", 1, 12)
    reservation = sold["reservation"]
    assert (reservation["status"], reservation["booked_sessions"]) == ("booked", 1)
    assert datetime.fromisoformat(reservation["starts_at"]) == at(3)
    types = [event["type"].split(".", 1)[1] for event in (await database.events())[-5:]]
    assert sorted(types) == [
        "reservation.confirmed.v1",
        "reservation.held.v1",
        "session.created.v1",
        "voucher.activated.v1",
        "voucher.purchased.v1",
    ]
    # Periods of two weeks are counted from the first day of the voucher.
    answer = await practice.book(sold["id"], starts_at=at(3, 12), therapist_id=THERAPIST)
    assert answer.json()["code"] == "frequency_reached"
    await practice.require_sums()


async def test_the_time_is_held_until_the_voucher_is_paid(
    practice: Practice, transactions: Transactions
) -> None:
    sold = await pending_order(practice)
    reservation = sold["reservation"]
    assert (sold["status"], sold["booked_sessions"]) == ("pending", 1)
    assert (reservation["status"], reservation["held_for"]) == ("held", "checkout")
    assert reservation["held_until"] == reservation["starts_at"]
    answer = await practice.act(reservation, "confirm")
    assert (answer.status_code, answer.json()["code"]) == (409, "voucher_unpaid")
    await deliver(transactions, payment("succeeded", sold["id"]))
    assert await state_of(practice, sold) == ("booked", None)
    await practice.require_sums()


async def test_what_is_declined_is_free_again(practice: Practice, database: Database) -> None:
    answer = await order(practice, terms={}, payment_token="pm_declined")
    assert answer.status_code == 402
    [reservation] = await database.rows("SELECT status, reason FROM reservations")
    assert tuple(reservation.values()) == ("cancelled", "unpaid")
    [voucher] = await database.rows("SELECT status, booked_sessions FROM vouchers")
    assert tuple(voucher.values()) == ("cancelled", 0)
    assert await database.rows("SELECT * FROM occupations") == []
    await practice.require_sums()


async def test_a_payment_that_fails_later_frees_the_time(
    practice: Practice, transactions: Transactions
) -> None:
    sold = await pending_order(practice)
    await deliver(transactions, payment("failed", sold["id"]))
    assert await state_of(practice, sold) == ("cancelled", "unpaid")
    await practice.require_sums()


async def test_the_buyer_of_no_organization_cancels(practice: Practice) -> None:
    buyer = practice.people.free_client
    sold = await pending_order(practice, buyer)
    await send(practice.client, "POST", f"/api/vouchers/{sold['id']}/cancel", buyer)
    assert await state_of(practice, sold) == ("cancelled", "unpaid")
    await practice.require_sums()


async def test_what_nobody_pays_in_time_is_free_again(
    practice: Practice, transactions: Transactions, payments: Payments
) -> None:
    sold = await pending_order(practice)
    deadlines = unpaid_vouchers.PaymentDeadlines(timedelta(hours=1), timedelta(hours=1))
    later = datetime.now(UTC) + timedelta(hours=2)
    await unpaid_vouchers.cancel_unpaid(transactions, payments.close, deadlines, later)
    assert await state_of(practice, sold) == ("cancelled", "unpaid")
    await practice.require_sums()


async def test_a_voucher_that_is_paid_after_the_session_began_is_free(
    practice: Practice, transactions: Transactions
) -> None:
    sold = await pending_order(practice)
    assert await lapse_holds(transactions, at(3)) == 1
    await deliver(transactions, payment("succeeded", sold["id"]))
    assert await state_of(practice, sold) == ("cancelled", "lapsed")
    path = f"/api/vouchers/{sold['id']}"
    voucher = await send(practice.client, "GET", path, practice.people.client)
    assert (voucher["status"], voucher["booked_sessions"]) == ("active", 0)


@pytest.mark.parametrize("whom", [{}, {"client_id": CHILD}], ids=["own", "dependant"])
async def test_what_must_be_approved_is_requested_when_it_is_paid(
    practice: Practice, whom: dict[str, Any]
) -> None:
    answer = await order(practice, terms={"booking_policy": {"approval": True}}, **whom)
    reservation = answer.json()["reservation"]
    assert (reservation["status"], reservation["held_for"]) == ("held", "approval")


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "off the grid": ({"starts_at": at(3, 10, 10).isoformat()}, 409, "start_off_grid"),
    "at night": ({"starts_at": at(3, 3).isoformat()}, 409, "therapist_unavailable"),
    "beyond the validity": ({"starts_at": at(50).isoformat()}, 409, "voucher_expired"),
    "no session": ({"session_id": 999_999}, 404, "session_not_found"),
    "nothing": ({}, 422, "invalid_request"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_booked_is_not_sold(
    practice: Practice, database: Database, payments: Payments, case: str
) -> None:
    wish, status, code = REFUSED[case]
    answer = await order(practice, terms={"validity_days": 30}, reservation=wish)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await database.rows("SELECT * FROM vouchers") == []
    assert payments.orders == []


async def test_clients_order_no_session_where_the_organization_books(practice: Practice) -> None:
    await practice.type()
    path = f"{HOME}/booking-settings"
    await send(practice.client, "PUT", path, practice.people.owner, {"clients_book": False})
    assert (await order(practice, terms={})).status_code == 403


async def test_an_order_that_is_repeated_holds_once(practice: Practice, database: Database) -> None:
    headers = {**practice.people.client, "Idempotency-Key": "buy-once-please"}
    await practice.add_therapist()
    kind = await practice.type()
    wish = {"starts_at": at(3).isoformat(), "therapist_id": THERAPIST}
    answers = [await buy(practice.client, headers, kind["id"], reservation=wish) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["reservation"]["status"] == "booked"
    assert len(await database.rows("SELECT * FROM reservations")) == 1
    await practice.require_sums()
