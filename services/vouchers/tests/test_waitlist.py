"""Waiting lists: who waits for a seat gets it in the transaction that frees it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.vouchers.service.holds import lapse_holds
from services.vouchers.service.waitlist import give_free_seats
from services.vouchers.tests.outside import CHILD, CLIENT, FREE_CLIENT, SECOND_CLIENT
from services.vouchers.tests.people import Headers, buy
from services.vouchers.tests.practice import THERAPIST, Practice, at, send
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

LATE = {"notice_minutes": 10_000}
"""A booking policy by which every cancellation is late, and every free seat is offered."""


@dataclass
class FullSession:
    """A session whose only seat our client has, and the vouchers of two clients who may wait."""

    practice: Practice
    session: dict[str, Any]
    seat: dict[str, Any]
    vouchers: list[dict[str, Any]]
    clients: list[Headers]

    async def request(self, number: int) -> httpx.Response:
        """Request a place in the waiting list for one of the two clients."""
        return await self.practice.book(
            self.vouchers[number]["id"],
            self.clients[number],
            session_id=self.session["id"],
            waitlist=True,
        )

    async def wait(self, number: int) -> dict[str, Any]:
        """Let one of the two clients wait; return the reservation."""
        answer = await self.request(number)
        assert answer.status_code == 201, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def free(self) -> None:
        """Let the organization cancel the reservation of the client who has the seat."""
        answer = await self.practice.act(self.seat, "cancel", self.practice.people.owner)
        assert answer.status_code == 200, answer.text

    async def show(self, reservation: dict[str, Any]) -> dict[str, Any]:
        """Return a reservation as it is now."""
        path = f"/api/reservations/{reservation['id']}"
        result: dict[str, Any] = await send(
            self.practice.client, "GET", path, self.practice.people.owner
        )
        return result

    async def states(self, *reservations: dict[str, Any]) -> list[str]:
        """Return the states of reservations."""
        return [(await self.show(reservation))["status"] for reservation in reservations]


async def full_session(practice: Practice, **terms: Any) -> FullSession:
    """Let our client book the only seat of a session."""
    await practice.add_therapist()
    kind = await practice.type(**terms)
    people = practice.people
    session = await practice.session(
        starts_at=at(3), duration_minutes=60, capacity=1, therapist_id=THERAPIST
    )
    voucher = await practice.voucher_of(people.client, kind["id"])
    seat = await practice.booked(voucher["id"], people.owner, session_id=session["id"])
    clients = [people.second_client, people.free_client]
    vouchers = [await practice.voucher_of(headers, kind["id"]) for headers in clients]
    return FullSession(practice, session, seat, vouchers, clients)


async def test_a_freed_seat_goes_to_the_first_in_line(
    practice: Practice, database: Database
) -> None:
    full = await full_session(practice)
    first, second = [await full.wait(number) for number in range(2)]
    assert (first["status"], first["booked_sessions"]) == ("waitlisted", 0)
    assert [first["waiting_position"], second["waiting_position"]] == [1, 2]
    await practice.require_sums()
    await full.free()
    promoted = await full.show(first)
    assert (promoted["status"], promoted["client_id"]) == ("booked", SECOND_CLIENT)
    assert (promoted["booked_sessions"], promoted["waiting_position"]) == (1, None)
    assert (await full.show(second))["waiting_position"] == 1
    await practice.require_sums()
    cancelled, seat_event = (await database.events())[-2:]
    assert cancelled["type"] == "vouchers.reservation.cancelled.v1"
    assert seat_event["type"] == "vouchers.reservation.promoted.v1"
    assert seat_event["data"]["actor"]["role"] == "system"
    assert seat_event["data"]["causation_id"] == cancelled["id"]
    assert seat_event["data"]["correlation_id"] == cancelled["data"]["correlation_id"]


async def test_who_cannot_book_is_passed_over_and_stays_in_line(
    practice: Practice, database: Database
) -> None:
    full = await full_session(practice)
    first, second = [await full.wait(number) for number in range(2)]
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE vouchers SET disputed_at = now() WHERE client_id = $1", SECOND_CLIENT
        )
    await full.free()
    assert await full.states(first, second) == ["waitlisted", "booked"]
    assert (await full.show(second))["client_id"] == FREE_CLIENT
    await practice.require_sums()


@pytest.mark.parametrize(
    "policy", [LATE, {"waitlist": "offer"}], ids=["after the notice", "always by policy"]
)
async def test_a_seat_is_offered_and_confirmed(practice: Practice, policy: dict[str, Any]) -> None:
    full = await full_session(practice, booking_policy=policy)
    waiting = await full.wait(0)
    before = datetime.now(UTC)
    await full.free()
    offer = await full.show(waiting)
    assert (offer["status"], offer["held_for"]) == ("held", "offer")
    offered_for = datetime.fromisoformat(offer["held_until"]) - before
    assert timedelta(minutes=30) <= offered_for < timedelta(minutes=31)
    confirmed = await practice.act(offer, "confirm", practice.people.second_client)
    assert (confirmed.status_code, confirmed.json()["status"]) == (200, "booked")
    await practice.require_sums()


async def test_an_offer_that_nobody_takes_goes_to_the_next(
    practice: Practice, transactions: Transactions
) -> None:
    full = await full_session(practice, booking_policy=LATE)
    first, second = [await full.wait(number) for number in range(2)]
    await full.free()
    held_until = datetime.fromisoformat((await full.show(first))["held_until"])
    assert await lapse_holds(transactions, held_until) == 1
    assert await full.states(first, second) == ["cancelled", "held"]
    answer = await practice.act(first, "confirm", practice.people.second_client)
    assert answer.json()["code"] == "hold_lapsed"
    declined = await practice.act(second, "cancel", practice.people.free_client)
    assert (declined.json()["status"], declined.json()["reason"]) == ("cancelled", "declined")
    await practice.require_sums()


async def test_a_seat_that_is_free_is_booked_at_once(practice: Practice) -> None:
    full = await full_session(practice)
    await full.free()
    assert (await full.wait(0))["status"] == "booked"


async def test_only_a_full_session_has_a_waiting_list(practice: Practice) -> None:
    full = await full_session(practice, booking_policy={"waitlist": "off"})
    answer = await full.request(0)
    assert (answer.status_code, answer.json()["code"]) == (409, "waitlist_closed")
    voucher, headers = full.vouchers[0], full.clients[0]
    for choice in (
        {"starts_at": at(4), "waitlist": True},
        {"session_id": full.session["id"], "waitlist": True, "hold": True},
    ):
        assert (await practice.book(voucher["id"], headers, **choice)).status_code == 422


async def test_a_session_on_demand_has_no_waiting_list(practice: Practice) -> None:
    await practice.add_therapist()
    kind = await practice.type()
    people = practice.people
    vouchers = [
        await practice.voucher_of(headers, kind["id"])
        for headers in (people.client, people.second_client)
    ]
    seat = await practice.booked(vouchers[0]["id"], starts_at=at(3), therapist_id=THERAPIST)
    choice = {"session_id": seat["session_id"], "waitlist": True}
    answer = await practice.book(vouchers[1]["id"], people.second_client, **choice)
    assert (answer.status_code, answer.json()["code"]) == (409, "waitlist_closed")


async def test_other_reasons_are_against_waiting_too(practice: Practice) -> None:
    full = await full_session(practice)
    await practice.booked(
        full.vouchers[0]["id"], practice.people.owner, starts_at=at(3, 12), therapist_id=THERAPIST
    )
    answer = await full.request(0)
    assert answer.status_code == 409
    codes = [reason["code"] for reason in answer.json()["reasons"]]
    assert codes == ["frequency_reached", "session_full"]


async def test_a_client_leaves_the_line(practice: Practice) -> None:
    full = await full_session(practice)
    first, second = [await full.wait(number) for number in range(2)]
    assert (await full.request(0)).json()["code"] == "already_reserved"
    answer = await practice.act(first, "cancel", practice.people.second_client)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert (await full.show(second))["waiting_position"] == 1
    await full.free()
    assert await full.states(first, second) == ["cancelled", "booked"]
    await practice.require_sums()


async def test_a_new_seat_is_given_to_who_waits(practice: Practice, database: Database) -> None:
    await practice.add_therapist()
    kind = await practice.type(max_clients_per_session=4)
    people = practice.people
    session = await practice.session(
        starts_at=at(3), duration_minutes=60, capacity=2, therapist_id=THERAPIST
    )
    places = []
    for headers in (people.client, people.second_client, people.free_client):
        voucher = await practice.voucher_of(headers, kind["id"])
        places.append(
            await practice.booked(voucher["id"], headers, session_id=session["id"], waitlist=True)
        )
    assert [place["status"] for place in places] == ["booked", "booked", "waitlisted"]
    path = f"/api/sessions/{session['id']}"
    await send(practice.client, "PUT", path, people.owner, {"capacity": 3})
    path = f"/api/reservations/{places[-1]['id']}"
    assert (await send(practice.client, "GET", path, people.free_client))["status"] == "booked"
    updated, seat_event = (await database.events())[-2:]
    assert updated["type"] == "vouchers.session.updated.v1"
    assert seat_event["data"]["causation_id"] == updated["id"]
    await practice.require_sums()


async def test_a_voucher_in_use_is_skipped_until_the_timer(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    full = await full_session(practice)
    waiting = await full.wait(0)
    async with database.admin() as admin, admin.transaction():
        await admin.execute("SELECT 1 FROM vouchers WHERE client_id = $1 FOR UPDATE", SECOND_CLIENT)
        await full.free()
        assert await give_free_seats(transactions) == 0
    assert await full.states(waiting) == ["waitlisted"]
    assert await give_free_seats(transactions) == 1
    assert await full.states(waiting) == ["booked"]
    assert await give_free_seats(transactions) == 0
    await practice.require_sums()


async def test_nobody_waits_for_a_session_that_is_over_or_cancelled(
    practice: Practice, transactions: Transactions
) -> None:
    full = await full_session(practice)
    first, second = [await full.wait(number) for number in range(2)]
    assert await lapse_holds(transactions, at(3) - timedelta(seconds=1)) == 0
    assert await lapse_holds(transactions, at(3)) == 2
    shown = await full.show(first)
    assert (shown["status"], shown["reason"]) == ("cancelled", "lapsed")
    again = await full.wait(1)
    path = f"/api/sessions/{full.session['id']}/cancel"
    await send(practice.client, "POST", path, practice.people.owner)
    assert await full.states(second, again, full.seat) == ["cancelled"] * 3
    await practice.require_sums()


async def test_a_seat_of_a_request_waits_for_the_approval(practice: Practice) -> None:
    full = await full_session(practice, booking_policy={"approval": True})
    waiting = await full.wait(0)
    await full.free()
    request = await full.show(waiting)
    assert (request["status"], request["held_for"]) == ("held", "approval")
    approved = await practice.act(request, "confirm", practice.people.owner)
    assert approved.json()["status"] == "booked"


async def _child_waits(full: FullSession, headers: Headers) -> dict[str, Any]:
    """Let a user put the child of our client on the waiting list; return the reservation."""
    practice = full.practice
    type_id = full.vouchers[0]["voucher_type_id"]
    sold = await buy(practice.client, practice.people.client, type_id, client_id=CHILD)
    assert sold.status_code == 201, sold.text
    return await practice.booked(
        sold.json()["id"], headers, session_id=full.session["id"], waitlist=True
    )


async def test_a_seat_of_a_guardians_request_waits_for_the_approval(practice: Practice) -> None:
    full = await full_session(practice, booking_policy={"approval": True})
    waiting = await _child_waits(full, practice.people.client)
    await full.free()
    request = await full.show(waiting)
    assert (request["status"], request["held_for"]) == ("held", "approval")


async def test_a_guardian_takes_the_seat_that_is_offered_to_a_dependant(
    practice: Practice,
) -> None:
    full = await full_session(practice, booking_policy={"waitlist": "offer"})
    offer = await _child_waits(full, practice.people.owner)
    await full.free()
    answer = await practice.act(offer, "confirm", practice.people.second_client)
    assert answer.status_code == 404
    answer = await practice.act(offer, "confirm", practice.people.client)
    assert (answer.status_code, answer.json()["status"]) == (200, "booked")


async def test_a_move_frees_a_seat(practice: Practice, database: Database) -> None:
    full = await full_session(practice)
    waiting = await full.wait(0)
    body = {"starts_at": at(4).isoformat(), "therapist_id": THERAPIST}
    moved = await practice.act(full.seat, "reschedule", body=body)
    assert (moved.status_code, moved.json()["client_id"]) == (200, CLIENT)
    assert await full.states(waiting) == ["booked"]
    moved_event, seat_event = (await database.events())[-2:]
    assert seat_event["data"]["causation_id"] == moved_event["id"]
    await practice.require_sums()
