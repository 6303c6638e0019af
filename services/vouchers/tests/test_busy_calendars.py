"""Calendars elsewhere: their events take a therapist's time, and nothing else of them is stored."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.vouchers.external.tests.calendars import (
    ADDRESS,
    Answer,
    answering,
    calendar,
    event,
    reader_of,
)
from services.vouchers.service.busy_calendars import read_due_calendars
from services.vouchers.settings import Settings, address_encryption_of
from services.vouchers.tests.practice import HOME, THERAPIST, Practice, at, send
from shared.db import now
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

LATER = timedelta(minutes=16)


def busy(start: datetime, hours: int = 1) -> bytes:
    """Return a calendar with one appointment."""
    times = [moment.astimezone(UTC) for moment in (start, start + timedelta(hours=hours))]
    first, last = (f"{moment:%Y%m%dT%H%M%SZ}" for moment in times)
    lines = (f"DTSTART:{first}", f"DTEND:{last}", "SUMMARY:Oncologist", "LOCATION:Clinic")
    return calendar(event("one", *lines))


class Elsewhere:
    """A therapist with a calendar elsewhere, and the worker that reads it."""

    def __init__(
        self, practice: Practice, transactions: Transactions, settings: Settings, resource_id: int
    ) -> None:
        self.practice = practice
        self.path = f"{HOME}/resources/{resource_id}/busy-calendar"
        self._transactions = transactions
        self._encryption = address_encryption_of(settings)

    async def read(self, answer: Answer, moment: datetime | None = None) -> int:
        """Let the worker read the calendars that are due at a moment."""
        async with reader_of(answer) as reader:
            return await read_due_calendars(self._transactions, reader, self._encryption, moment)

    async def state(self) -> dict[str, Any]:
        """Return what the therapist sees of the calendar."""
        state: dict[str, Any] = await send(
            self.practice.client, "GET", self.path, self.practice.people.therapist
        )
        return state


@pytest.fixture
async def elsewhere(
    practice: Practice, transactions: Transactions, settings: Settings
) -> Elsewhere:
    resource = await practice.add_therapist()
    each = Elsewhere(practice, transactions, settings, resource["id"])
    body = {"address": ADDRESS}
    created = await send(practice.client, "PUT", each.path, practice.people.therapist, body)
    assert (created["host"], created["last_read_at"]) == ("calendar.example.org", None)
    return each


async def test_an_appointment_takes_the_therapists_time(
    practice: Practice, elsewhere: Elsewhere
) -> None:
    assert await elsewhere.read(answering(busy(at(3)))) == 1
    voucher = await practice.voucher()
    answer = await practice.book(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    assert [each["code"] for each in answer.json()["reasons"]] == ["therapist_unavailable"]
    for next_slot in answer.json()["next_slots"]:
        assert datetime.fromisoformat(next_slot["starts_at"]) >= at(3, 11)
    await practice.booked(voucher["id"], starts_at=at(3, 11), therapist_id=THERAPIST)
    stretch = f"from={at(3, 0).isoformat()}&until={at(4, 0).isoformat()}".replace("+", "%2B")
    path = elsewhere.path.replace("busy-calendar", f"calendar?{stretch}")
    entries = await send(practice.client, "GET", path, practice.people.staff)
    [entry] = [entry for entry in entries if entry["kind"] == "busy"]
    assert datetime.fromisoformat(entry["starts_at"]) == at(3)


async def test_reservations_at_that_time_are_listed(
    practice: Practice, elsewhere: Elsewhere
) -> None:
    voucher = await practice.voucher()
    reservation = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    assert (await elsewhere.state())["conflicts"] == []
    await elsewhere.read(answering(busy(at(3, 9), hours=2)))
    state = await elsewhere.state()
    assert [row["reservation_id"] for row in state["conflicts"]] == [reservation["id"]]
    assert (state["busy_times"], state["last_error"]) == (1, None)


async def test_it_is_read_every_quarter_of_an_hour(elsewhere: Elsewhere) -> None:
    assert await elsewhere.read(answering(busy(at(3)))) == 1
    assert await elsewhere.read(answering(busy(at(3)))) == 0
    changed = calendar()
    assert await elsewhere.read(answering(changed), now() + LATER) == 1
    assert (await elsewhere.state())["busy_times"] == 0


async def test_a_failure_is_shown_and_changes_nothing(elsewhere: Elsewhere) -> None:
    await elsewhere.read(answering(busy(at(3))))
    await elsewhere.read(answering(b"", 404), now() + LATER)
    state = await elsewhere.state()
    assert "status 404" in state["last_error"]
    assert state["failing_since"] is not None
    assert state["busy_times"] == 1
    await elsewhere.read(answering(busy(at(4))), now() + 2 * LATER)
    state = await elsewhere.state()
    assert (state["last_error"], state["failing_since"]) == (None, None)


async def test_nothing_but_the_time_is_stored(elsewhere: Elsewhere, database: Database) -> None:
    await elsewhere.read(answering(busy(at(3))))
    tables = ("busy_calendars", "busy_times", "closures", "outbox", "idempotency_keys")
    stored = [await database.rows(f"SELECT * FROM {table}") for table in tables]
    text = repr(stored) + repr(await database.events())
    for secret in ("Oncologist", "Clinic", "private.ics"):
        assert secret not in text
    assert "calendar.example.org" in text
    assert "private.ics" not in repr(await elsewhere.state())


async def test_another_address_replaces_the_first(
    practice: Practice, elsewhere: Elsewhere, database: Database
) -> None:
    await elsewhere.read(answering(busy(at(3))))
    body = {"address": "webcal://other.example.org/b.ics"}
    state = await send(practice.client, "PUT", elsewhere.path, practice.people.owner, body)
    assert (state["host"], state["busy_times"]) == ("other.example.org", 0)
    types = [each["type"] for each in await database.events()]
    assert types[-2:] == ["vouchers.busy_calendar.deleted.v1", "vouchers.busy_calendar.created.v1"]
    await send(practice.client, "DELETE", elsewhere.path, practice.people.owner)
    for method in ("GET", "DELETE"):
        answer = await practice.client.request(
            method, elsewhere.path, headers=practice.people.owner
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "busy_calendar_not_found")
    assert await database.rows("SELECT * FROM busy_times") == []


async def test_a_calendar_that_was_removed_while_it_was_read_stores_nothing(
    elsewhere: Elsewhere, database: Database
) -> None:
    async def remove_and_answer(_request: httpx.Request) -> httpx.Response:
        async with database.admin() as admin:
            await admin.execute("DELETE FROM busy_calendars")
        return httpx.Response(200, content=busy(at(3)))

    assert await elsewhere.read(remove_and_answer) == 1
    assert await database.rows("SELECT * FROM busy_times") == []


async def test_an_address_that_cannot_be_decrypted_must_be_entered_again(
    elsewhere: Elsewhere, database: Database
) -> None:
    async with database.admin() as admin:
        await admin.execute("UPDATE busy_calendars SET encrypted_address = 'other'")
    await elsewhere.read(answering(busy(at(3))))
    assert "Enter it again." in (await elsewhere.state())["last_error"]


@pytest.mark.parametrize(
    "address", ["http://calendar.example.org/a.ics", "https://127.0.0.1/a.ics", "nowhere"]
)
async def test_addresses_that_are_refused(
    practice: Practice, elsewhere: Elsewhere, address: str
) -> None:
    answer = await practice.client.put(
        elsewhere.path, json={"address": address}, headers=practice.people.owner
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "address"


async def test_who_enters_an_address(practice: Practice, elsewhere: Elsewhere) -> None:
    people = practice.people
    body = {"address": ADDRESS}
    for headers, status in (
        (people.owner, 200),
        (people.therapist, 200),
        (people.staff, 403),
        (people.client, 403),
        (people.other_owner, 404),
        (people.anonymous, 401),
    ):
        answer = await practice.client.put(elsewhere.path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
    assert (await practice.client.get(elsewhere.path, headers=people.staff)).status_code == 200
    assert (await practice.client.get(elsewhere.path, headers=people.client)).status_code == 403
