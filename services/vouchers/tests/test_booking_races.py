"""Races of bookings, over real transactions and two instances of the service."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from services.vouchers.app import create_app
from services.vouchers.service.holds import lapse_holds
from services.vouchers.settings import Settings
from services.vouchers.tests.environment import Transports
from services.vouchers.tests.people import People, redeem, sold_earlier
from services.vouchers.tests.practice import (
    HOME,
    SECOND_THERAPIST,
    THERAPIST,
    Practice,
    at,
    send,
)
from shared.testing import Database, client_of
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

RACERS = 24


@pytest.fixture
async def second(
    settings: Settings, transports: Transports, people: People, database: Database
) -> AsyncIterator[Practice]:
    """The same practice at another instance of the service, with connections of its own."""
    async with client_of(create_app(settings, transports=transports)) as client:
        yield Practice(client, people, database)


async def _race(
    practices: tuple[Practice, Practice],
    racers: int,
    request: Callable[[Practice, int], Awaitable[httpx.Response]],
) -> list[httpx.Response]:
    """Send requests at once, half of them at each instance; return the answers.

    A request is repeated as long as the service is too busy.
    """

    async def insist(number: int) -> httpx.Response:
        practice = practices[number % 2]
        while (answer := await request(practice, number)).status_code == 503:
            await asyncio.sleep(0.1)
        return answer

    return await asyncio.gather(*(insist(number) for number in range(racers)))


def _outcomes(answers: Iterable[httpx.Response]) -> Counter[str]:
    return Counter("won" if answer.is_success else answer.json()["code"] for answer in answers)


async def _vouchers(
    practice: Practice, database: Database, number: int, **terms: Any
) -> list[dict[str, Any]]:
    """Sell a voucher, and copy it for clients who belong to no request yet."""
    first = await practice.voucher(**terms)
    async with database.admin() as admin:
        await admin.execute(
            "INSERT INTO client_copies SELECT 1000 + n, 1, 'Racer', NULL, 'client',"
            " organization_id, true FROM client_copies, generate_series(1, $2::int) n"
            " WHERE id = $1",
            first["client_id"],
            number,
        )
        columns = [
            row["name"]
            for row in await admin.fetch(
                "SELECT attname AS name FROM pg_attribute WHERE attrelid = 'vouchers'::regclass"
                " AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', 'client_id')"
            )
        ]
        names = ", ".join(columns)
        rows = await admin.fetch(
            f"INSERT INTO vouchers (client_id, {names}) SELECT 1000 + n, {names}"
            " FROM vouchers, generate_series(1, $2::int) n WHERE vouchers.id = $1"
            " RETURNING id, client_id",
            first["id"],
            number,
        )
    return [dict(row) for row in rows]


async def test_of_many_who_want_the_last_seat_one_gets_it(
    practice: Practice, second: Practice, database: Database
) -> None:
    await practice.add_therapist()
    vouchers = await _vouchers(practice, database, RACERS, max_clients_per_session=2)
    session = await practice.session(
        starts_at=at(3), duration_minutes=60, capacity=2, therapist_id=THERAPIST
    )
    owner = practice.people.owner
    await practice.booked(vouchers[0]["id"], owner, session_id=session["id"])

    async def request(p: Practice, n: int) -> httpx.Response:
        return await p.book(vouchers[n + 1]["id"], owner, session_id=session["id"])

    answers = await _race((practice, second), RACERS - 1, request)
    assert _outcomes(answers) == {"won": 1, "session_full": RACERS - 2}
    await practice.require_sums()


async def test_of_many_who_want_one_time_one_gets_it(
    practice: Practice, second: Practice, database: Database
) -> None:
    await practice.add_therapist()
    vouchers = await _vouchers(practice, database, RACERS)
    owner = practice.people.owner

    async def request(p: Practice, n: int) -> httpx.Response:
        return await p.book(vouchers[n]["id"], owner, starts_at=at(3), therapist_id=THERAPIST)

    answers = await _race((practice, second), RACERS, request)
    assert _outcomes(answers) == {"won": 1, "slot_taken": RACERS - 1}
    assert len(await database.rows("SELECT * FROM occupations")) == 1
    await practice.require_sums()


async def test_therapists_and_rooms_in_any_order_do_not_block_each_other(
    practice: Practice, second: Practice, database: Database
) -> None:
    await practice.add_therapist()
    await practice.add_therapist(SECOND_THERAPIST)
    owner = practice.people.owner
    rooms = [
        await send(
            practice.client, "POST", f"{HOME}/resources", owner, {"kind": "room", "name": name}
        )
        for name in ("Red", "Blue")
    ]

    async def create(practice: Practice, number: int) -> httpx.Response:
        body = {
            "starts_at": at(3, 8 + number % 3).isoformat(),
            "duration_minutes": 90,
            "therapist_id": (THERAPIST, SECOND_THERAPIST)[number % 2],
            "resource_ids": [rooms[number // 2 % 2]["id"]],
        }
        return await practice.client.post(f"{HOME}/sessions", json=body, headers=owner)

    answers = await _race((practice, second), RACERS, create)
    outcomes = set(_outcomes(answers))
    # Whether a room is taken while its therapist is still free depends on who is first.
    assert {"won"} < outcomes <= {"won", "slot_taken", "room_taken"}
    overlaps = await database.rows(
        "SELECT * FROM occupations a JOIN occupations b ON a.resource_id = b.resource_id"
        " AND a.session_id < b.session_id AND a.blocked && b.blocked"
    )
    assert overlaps == []


async def test_the_last_session_of_a_voucher_is_booked_once(
    practice: Practice, second: Practice
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(total_sessions=1)

    async def request(p: Practice, n: int) -> httpx.Response:
        return await p.book(voucher["id"], starts_at=at(2 + n))

    answers = await _race((practice, second), 8, request)
    assert _outcomes(answers) == {"won": 1, "sessions_booked": 7}
    await practice.require_sums()


async def test_one_week_has_one_session(practice: Practice, second: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(frequency="weekly")
    monday = 15 - at(0).isoweekday()

    async def request(p: Practice, n: int) -> httpx.Response:
        return await p.book(voucher["id"], starts_at=at(monday + n % 7, 8 + n // 7))

    answers = await _race((practice, second), 14, request)
    assert _outcomes(answers) == {"won": 1, "frequency_reached": 13}


async def test_a_client_with_two_vouchers_is_in_one_place(
    practice: Practice, second: Practice
) -> None:
    await practice.add_therapist()
    await practice.add_therapist(SECOND_THERAPIST)
    kind = await practice.type()
    vouchers = [await practice.voucher_of(practice.people.client, kind["id"]) for _ in range(2)]

    async def request(p: Practice, n: int) -> httpx.Response:
        return await p.book(
            vouchers[n % 2]["id"],
            starts_at=at(3, 10, 30 * (n // 2 % 2)),
            therapist_id=(THERAPIST, SECOND_THERAPIST)[n % 2],
        )

    answers = await _race((practice, second), 8, request)
    outcomes = _outcomes(answers)
    assert outcomes["won"] == 1
    assert outcomes.keys() <= {"won", "client_busy", "slot_taken", "frequency_reached"}
    await practice.require_sums()


async def test_of_two_cancellations_one_counts(practice: Practice, second: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    reservation = await practice.booked(voucher["id"], starts_at=at(3))
    path = f"/api/reservations/{reservation['id']}/cancel"

    async def request(p: Practice, _n: int) -> httpx.Response:
        return await p.client.post(path, headers=p.people.client)

    answers = await _race((practice, second), 8, request)
    assert _outcomes(answers) == {"won": 1, "reservation_settled": 7}
    await practice.require_sums()


async def test_a_move_against_a_booking_of_the_same_time(
    practice: Practice, second: Practice
) -> None:
    await practice.add_therapist()
    kind = await practice.type()
    people = practice.people
    mine = await practice.voucher_of(people.client, kind["id"])
    other = await practice.voucher_of(people.second_client, kind["id"])
    reservation = await practice.booked(mine["id"], starts_at=at(3))
    body = {"starts_at": at(4).isoformat(), "therapist_id": THERAPIST}
    path = f"/api/reservations/{reservation['id']}/reschedule"
    moved, booked = await asyncio.gather(
        practice.client.post(path, json=body, headers=people.client),
        second.book(other["id"], people.second_client, starts_at=at(4), therapist_id=THERAPIST),
    )
    assert _outcomes([moved, booked]) == {"won": 1, "slot_taken": 1}
    await practice.require_sums()


async def test_a_code_against_attendance(
    practice: Practice, second: Practice, database: Database
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(total_sessions=1)
    reservation = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    await sold_earlier(database, voucher, 2)
    await practice.begin(reservation, at(-1))
    [code] = await database.rows("SELECT code FROM voucher_codes WHERE NOT is_backup")
    order = {"code": code["code"], "session_date": at(-1).date().isoformat()}

    async def request(p: Practice, n: int) -> httpx.Response:
        therapist = p.people.therapist
        if n // 2 % 2:
            return await redeem(p.client, therapist, voucher["id"], **order)
        path = f"/api/reservations/{reservation['id']}/attend"
        return await p.client.post(path, headers=therapist)

    outcomes = _outcomes(await _race((practice, second), 8, request))
    assert outcomes["won"] == 1
    assert outcomes.keys() <= {"won", "reservation_settled", "code_already_used"}
    assert len(await database.rows("SELECT * FROM redemptions")) == 1
    await practice.require_sums()


async def test_a_refund_against_a_booking(practice: Practice, second: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher(total_sessions=2)
    owner = practice.people.owner
    path = f"/api/vouchers/{voucher['id']}"
    quote = await send(practice.client, "POST", f"{path}/refund-quote", owner)
    body = {"quote_id": quote["id"]}
    answers = await asyncio.gather(
        practice.client.post(f"{path}/refunds", json=body, headers=owner),
        second.book(voucher["id"], starts_at=at(3), therapist_id=THERAPIST),
    )
    outcomes = _outcomes(answers)
    assert outcomes["won"] == 1
    refused = {"refund_quote_outdated", "voucher_exhausted", "voucher_cancelled"}
    assert outcomes.keys() <= {"won"} | refused
    await practice.require_sums()


async def test_a_freeze_against_a_booking(practice: Practice, second: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    day = at(3).date().isoformat()
    body = {"starts_on": day, "ends_on": day, "reason": "Holiday"}
    answers = await asyncio.gather(
        practice.client.post(
            f"/api/vouchers/{voucher['id']}/freezes", json=body, headers=practice.people.owner
        ),
        second.book(voucher["id"], starts_at=at(3), therapist_id=THERAPIST),
    )
    outcomes = _outcomes(answers)
    assert outcomes["won"] == 1
    assert outcomes.keys() <= {"won", "reservations_in_freeze", "voucher_frozen"}
    await practice.require_sums()


async def test_the_database_refuses_who_takes_no_lock(
    practice: Practice, database: Database
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    await practice.booked(voucher["id"], starts_at=at(3))
    async with database.admin() as admin:
        with pytest.raises(asyncpg.ExclusionViolationError):
            await admin.execute(
                "INSERT INTO occupations SELECT organization_id, session_id + 1000, resource_id,"
                " blocked, true FROM occupations"
            )
        columns = (
            "organization_id, client_id, voucher_id, session_id, starts_at, ends_at, status,"
            " created_at, updated_at, version"
        )
        with pytest.raises(asyncpg.ExclusionViolationError):
            await admin.execute(
                f"INSERT INTO reservations ({columns}) SELECT organization_id, client_id, NULL,"
                " session_id + 1000, starts_at, ends_at, status, now(), now(), 1 FROM reservations"
            )
        with pytest.raises(asyncpg.UniqueViolationError):
            await admin.execute(
                f"INSERT INTO reservations ({columns}, period) SELECT organization_id, client_id,"
                " voucher_id, session_id + 1000, starts_at + interval '1 day',"
                " ends_at + interval '1 day', status, now(), now(), 1, period FROM reservations"
            )
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute("UPDATE reservations SET status = 'waitlisted'")


async def test_a_repeated_request_books_once(practice: Practice, second: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    headers = {**practice.people.client, "Idempotency-Key": "book-once-please"}

    async def request(p: Practice, _n: int) -> httpx.Response:
        return await p.book(voucher["id"], headers, starts_at=at(3))

    answers = await _race((practice, second), 10, request)
    ids = {answer.json().get("id") for answer in answers if answer.status_code == 201}
    assert len(ids) == 1
    await practice.require_sums()


async def test_the_first_changes_of_booking_settings_wait_for_each_other(
    practice: Practice, second: Practice, database: Database
) -> None:
    """There is no row yet that they could lock."""
    await practice.add_therapist()
    names = ("clients_book", "therapists_edit_hours", "feed_names")

    async def request(p: Practice, n: int) -> httpx.Response:
        body = {names[n % 3]: n % 2 == 0}
        return await p.client.put(
            f"{HOME}/booking-settings", json=body, headers=practice.people.owner
        )

    for _ in range(10):
        answers = await _race((practice, second), 12, request)
        assert _outcomes(answers) == {"won": 12}
        rows = await database.rows("DELETE FROM booking_settings RETURNING version")
        assert len(rows) == 1


async def test_a_client_who_holds_everywhere_holds_three_times(
    practice: Practice, second: Practice
) -> None:
    await practice.add_therapist()
    kind = await practice.type()
    vouchers = [await practice.voucher_of(practice.people.client, kind["id"]) for _ in range(8)]

    async def request(p: Practice, n: int) -> httpx.Response:
        return await p.book(vouchers[n]["id"], starts_at=at(2 + n), hold=True)

    answers = await _race((practice, second), 8, request)
    assert _outcomes(answers) == {"won": 3, "too_many_holds": 5}
    await practice.require_sums()


async def test_a_hold_lapses_or_is_confirmed(
    practice: Practice, second: Practice, transactions: Transactions
) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    later = datetime.now(UTC) + timedelta(hours=1)
    for days in range(2, 8):
        held = await practice.booked(voucher["id"], starts_at=at(days), hold=True)
        lapsed, confirmed = await asyncio.gather(
            lapse_holds(transactions, later), second.act(held, "confirm")
        )
        assert _outcomes([confirmed]) == {("hold_lapsed" if lapsed else "won"): 1}
        await practice.require_sums()


async def test_a_repeated_request_holds_once(practice: Practice, second: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    headers = {**practice.people.client, "Idempotency-Key": "hold-once-please"}

    async def request(p: Practice, _n: int) -> httpx.Response:
        return await p.book(voucher["id"], headers, starts_at=at(3), hold=True)

    answers = await _race((practice, second), 50, request)
    ids = {answer.json().get("id") for answer in answers if answer.status_code == 201}
    assert len(ids) == 1
    assert _outcomes(answers).keys() <= {"won", "request_in_progress"}
    await practice.require_sums()


async def _group(
    practice: Practice, database: Database, vouchers: int, *, seats: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Book all seats of a session with the first of some vouchers, and let the next one wait.

    Returns the session, the vouchers and the reservations; the last one waits.
    """
    await practice.add_therapist()
    sold = await _vouchers(practice, database, vouchers, max_clients_per_session=4)
    session = await practice.session(
        starts_at=at(3), duration_minutes=60, capacity=seats, therapist_id=THERAPIST
    )
    owner = practice.people.owner
    places = [
        await practice.booked(sold[n]["id"], owner, session_id=session["id"], waitlist=True)
        for n in range(seats + 1)
    ]
    return session, sold, places


async def test_a_cancellation_against_bookings_gives_the_seat_to_the_line(
    practice: Practice, second: Practice, database: Database
) -> None:
    session, vouchers, places = await _group(practice, database, 16, seats=2)
    owner = practice.people.owner

    async def request(p: Practice, n: int) -> httpx.Response:
        if n == 5:
            return await p.act(places[0], "cancel", owner)
        return await p.book(vouchers[n + 3]["id"], owner, session_id=session["id"])

    answers = await _race((practice, second), 12, request)
    assert answers[5].status_code == 200
    assert _outcomes(answers) == {"won": 1, "session_full": 11}
    [row] = await database.rows(f"SELECT status FROM reservations WHERE id = {places[-1]['id']}")
    assert row["status"] == "booked"
    await practice.require_sums()


async def test_of_two_cancellations_one_gives_the_seat_to_the_line(
    practice: Practice, second: Practice, database: Database
) -> None:
    session, _, places = await _group(practice, database, 4, seats=2)
    owner = practice.people.owner

    async def request(p: Practice, n: int) -> httpx.Response:
        return await p.act(places[n], "cancel", owner)

    answers = await _race((practice, second), 2, request)
    assert _outcomes(answers) == {"won": 2}
    rows = await database.rows(
        f"SELECT id FROM reservations WHERE session_id = {session['id']} AND status = 'booked'"
    )
    assert [row["id"] for row in rows] == [places[-1]["id"]]
    await practice.require_sums()


async def test_a_confirmation_against_the_lapse_of_an_offer(
    practice: Practice, second: Practice, database: Database, transactions: Transactions
) -> None:
    await practice.add_therapist()
    terms = {"max_clients_per_session": 4, "booking_policy": {"waitlist": "offer"}}
    vouchers = await _vouchers(practice, database, 4, **terms)
    session = await practice.session(
        starts_at=at(3), duration_minutes=60, capacity=2, therapist_id=THERAPIST
    )
    owner = practice.people.owner
    places = [
        await practice.booked(voucher["id"], owner, session_id=session["id"], waitlist=True)
        for voucher in vouchers
    ]
    await practice.act(places[0], "cancel", owner)
    [offer] = await database.rows("SELECT id, held_until FROM reservations WHERE status = 'held'")
    assert offer["id"] == places[2]["id"]
    lapsed, confirmed = await asyncio.gather(
        lapse_holds(transactions, offer["held_until"]), second.act(places[2], "confirm", owner)
    )
    assert _outcomes([confirmed]) == {("hold_lapsed" if lapsed else "won"): 1}
    rows = await database.rows("SELECT status FROM reservations ORDER BY id DESC LIMIT 2")
    expected = ["held", "cancelled"] if lapsed else ["waitlisted", "booked"]
    assert [row["status"] for row in rows] == expected


async def test_a_series_against_single_bookings(
    practice: Practice, second: Practice, database: Database
) -> None:
    await practice.add_therapist()
    vouchers = await _vouchers(practice, database, 9, total_sessions=4)
    owner = practice.people.owner
    series = {
        "first_date": str(at(7).date()),
        "weekdays": [at(7).isoweekday()],
        "start_time": "10:00",
        "therapist_id": THERAPIST,
    }

    async def request(p: Practice, n: int) -> httpx.Response:
        voucher_id = vouchers[n]["id"]
        if n == 0:
            path = f"/api/vouchers/{voucher_id}/reservations/series"
            return await p.client.post(path, json=series, headers=owner)
        start = at(7 + 7 * (n % 4))
        return await p.book(voucher_id, owner, starts_at=start, therapist_id=THERAPIST)

    answers = await _race((practice, second), 9, request)
    assert answers[0].status_code == 200, answers[0].text
    in_series = sum(each["bookable"] for each in answers[0].json()["dates"])
    outcomes = _outcomes(answers[1:])
    # Each of the four times has one client, of the series or of a single booking.
    assert in_series + outcomes["won"] == 4
    assert outcomes.keys() <= {"won", "slot_taken"}
    assert len(await database.rows("SELECT * FROM reservations")) == 4
    await practice.require_sums()


async def test_two_series_at_one_time_do_not_block_each_other(
    practice: Practice, second: Practice, database: Database
) -> None:
    await practice.add_therapist()
    await practice.add_therapist(SECOND_THERAPIST)
    vouchers = await _vouchers(practice, database, 6, total_sessions=4)
    series = {
        "first_date": str(at(7).date()),
        "weekdays": [at(7).isoweekday()],
        "start_time": "10:00",
    }

    async def request(p: Practice, n: int) -> httpx.Response:
        path = f"/api/vouchers/{vouchers[n]['id']}/reservations/series"
        return await p.client.post(path, json=series, headers=p.people.owner)

    answers = await _race((practice, second), 6, request)
    booked = [sum(d["bookable"] for d in answer.json()["dates"]) for answer in answers]
    assert sorted(booked) == [0, 0, 0, 0, 4, 4]
    await practice.require_sums()


async def test_one_therapist_is_created_by_simultaneous_requests(
    practice: Practice, second: Practice
) -> None:
    await practice.employ(THERAPIST)
    body = {"kind": "therapist", "user_id": THERAPIST}

    async def create(one: Practice, _: int) -> httpx.Response:
        return await one.client.post(f"{HOME}/resources", json=body, headers=one.people.owner)

    answers = await _race((practice, second), RACERS, create)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: RACERS - 1}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes == {"user_is_resource"}
