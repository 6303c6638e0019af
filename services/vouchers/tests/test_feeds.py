"""Calendar feeds: who subscribes, what a feed contains, and that its token stays secret."""

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from services.vouchers.handlers import erase_client
from services.vouchers.scheduling.ics import fold
from services.vouchers.tests.events import event
from services.vouchers.tests.outside import CLIENT, ORGANIZATION
from services.vouchers.tests.people import Headers
from services.vouchers.tests.practice import HOME, THERAPIST, Practice, at, send
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

FEEDS = "/api/calendar-feeds"


@dataclass(frozen=True)
class Feed:
    """A feed with the path of its address, and its token."""

    id: int
    path: str

    @property
    def token(self) -> str:
        """The secret part of the address."""
        return self.path.rpartition("/")[2].removesuffix(".ics")


async def new_feed(practice: Practice, headers: Headers, **body: Any) -> Feed:
    """Create a feed of a user's own sessions."""
    feed = await send(practice.client, "POST", FEEDS, headers, body)
    return Feed(feed["id"], feed["address"])


async def read(practice: Practice, feed: Feed, **headers: str) -> httpx.Response:
    """Read a feed without signing in."""
    return await practice.client.get(feed.path, headers=headers)


async def lines_of(practice: Practice, feed: Feed) -> list[str]:
    """Return the lines of a feed."""
    answer = await read(practice, feed)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    return answer.text.replace("\r\n ", "").split("\r\n")


async def test_a_client_subscribes_to_reservations(practice: Practice, database: Database) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    client = practice.people.client
    feed = await new_feed(practice, client)
    reservation = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    lines = await lines_of(practice, feed)
    starts_at = at(3).astimezone(UTC)
    assert f"UID:reservation-{reservation['id']}@carnet" in lines
    assert f"DTSTART:{starts_at:%Y%m%dT%H%M%SZ}" in lines
    assert ("SEQUENCE:1" in lines, "SUMMARY:Session" in lines) == (True, True)
    assert "Therapist" not in "".join(lines)
    path = f"/api/reservations/{reservation['id']}/cancel"
    await send(practice.client, "POST", path, client)
    assert "STATUS:CANCELLED" in await lines_of(practice, feed)
    [row] = await database.rows("SELECT * FROM calendar_feeds")
    assert row["token_hash"] == hashlib.sha256(feed.token.encode()).hexdigest()
    assert row["last_read_at"] is not None


async def test_names_are_for_whom_they_are(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    people = practice.people
    await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    own = await lines_of(practice, await new_feed(practice, people.client, detail="names"))
    assert {"SUMMARY:Individual therapy", "DESCRIPTION:Therapist"} <= set(own)
    answer = await practice.client.post(FEEDS, json={"detail": "names"}, headers=people.therapist)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    settings = f"{HOME}/booking-settings"
    await send(practice.client, "PUT", settings, people.owner, {"feed_names": True})
    feed = await new_feed(practice, people.therapist, detail="names")
    query = "SELECT name FROM client_copies WHERE id = $1"
    [name] = [row["name"] for row in await practice.database.rows(query, CLIENT)]
    assert f"SUMMARY:{name}" in await lines_of(practice, feed)
    # The organization's decision holds for feeds that exist.
    await send(practice.client, "PUT", settings, people.owner, {"feed_names": False})
    assert name not in "\n".join(await lines_of(practice, feed))


async def test_a_therapist_sees_the_seats_of_a_class(practice: Practice) -> None:
    await practice.add_therapist()
    people = practice.people
    body = {"name": "Yoga", "duration_minutes": 90, "capacity": 8, "therapist_id": THERAPIST}
    lesson = await send(practice.client, "POST", f"{HOME}/classes", people.owner, body)
    session = await practice.session(starts_at=at(3), therapy_class_id=lesson["id"])
    lines = await lines_of(practice, await new_feed(practice, people.therapist))
    assert {f"UID:session-{session['id']}@carnet", "SUMMARY:Yoga", "DESCRIPTION:0 of 8"} <= set(
        lines
    )


async def test_an_unchanged_feed_is_not_sent_again(practice: Practice) -> None:
    await practice.add_therapist()
    voucher = await practice.voucher()
    feed = await new_feed(practice, practice.people.client)
    first = await read(practice, feed)
    tag = first.headers["etag"]
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await read(practice, feed, **{"If-None-Match": condition})
        assert (answer.status_code, answer.content) == (304, b""), condition
        assert answer.headers["etag"] == tag
    head = await practice.client.head(feed.path)
    assert (head.status_code, head.headers["etag"]) == (200, tag)
    await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    changed = await read(practice, feed, **{"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


async def test_a_revoked_feed_is_unknown(practice: Practice, database: Database) -> None:
    await practice.type()
    people = practice.people
    feed = await new_feed(practice, people.client)
    [listed] = await send(practice.client, "GET", FEEDS, people.client)
    assert (listed["id"], "address" in listed) == (feed.id, False)
    path = f"{FEEDS}/{feed.id}"
    for headers in (people.second_client, people.owner, people.admin):
        answer = await practice.client.delete(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "feed_not_found")
    await send(practice.client, "DELETE", path, people.client)
    unknown = Feed(0, f"/api/calendars/{'a' * 43}.ics")
    malformed = Feed(0, "/api/calendars/%27.ics")
    for each in (feed, unknown, malformed):
        answer = await read(practice, each)
        assert (answer.status_code, answer.json()["code"]) == (404, "feed_not_found")
    assert await send(practice.client, "GET", FEEDS, people.client) == []
    assert (await practice.client.delete(path, headers=people.client)).status_code == 404
    types = [each["type"] for each in await database.events()]
    assert types[-2:] == ["vouchers.calendar_feed.created.v1", "vouchers.calendar_feed.revoked.v1"]


async def test_users_who_leave_have_no_feed(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    await practice.add_therapist()
    await practice.voucher()
    people = practice.people
    feeds = [await new_feed(practice, each) for each in (people.client, people.therapist)]
    async with database.admin() as admin:
        await admin.execute(
            "UPDATE client_copies SET organization_id = organization_id + 1 WHERE id = $1",
            THERAPIST,
        )
    assert [(await read(practice, feed)).status_code for feed in feeds] == [200, 404]
    async with transactions.system() as session:
        await erase_client(session, event("identity.user.deleted.v1", CLIENT, 9))
    assert (await read(practice, feeds[0])).status_code == 404
    [row] = await database.rows("SELECT revoked_at FROM calendar_feeds WHERE user_id = $1", CLIENT)
    assert row["revoked_at"] is not None


async def test_feeds_are_of_ones_own_organization(practice: Practice) -> None:
    await practice.add_therapist()
    people = practice.people
    body = {"organization_id": ORGANIZATION}
    for headers, status in (
        (people.client, 201),
        (people.free_client, 201),
        (people.admin, 201),
        (people.other_owner, 404),
        (people.anonymous, 401),
    ):
        answer = await practice.client.post(FEEDS, json=body, headers=headers)
        assert answer.status_code == status, answer.text
    answer = await practice.client.post(FEEDS, json={}, headers=people.free_client)
    assert answer.json()["errors"][0]["field"] == "organization_id"
    answer = await practice.client.post(FEEDS, json={"scope": "therapist"}, headers=people.client)
    assert answer.status_code == 403


async def test_twenty_feeds_are_enough(practice: Practice) -> None:
    await practice.type()
    for _ in range(20):
        await new_feed(practice, practice.people.client)
    answer = await practice.client.post(FEEDS, json={}, headers=practice.people.client)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_feeds")


async def test_feeds_that_are_created_at_once_are_counted(practice: Practice) -> None:
    await practice.type()
    answers = await asyncio.gather(
        *(practice.client.post(FEEDS, json={}, headers=practice.people.client) for _ in range(24))
    )
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(201), statuses.count(409)) == (20, 4)


async def test_the_address_is_shown_once(practice: Practice, database: Database) -> None:
    await practice.type()
    headers = {**practice.people.client, "Idempotency-Key": "feed-1"}
    first, again = [await practice.client.post(FEEDS, json={}, headers=headers) for _ in range(2)]
    assert first.json()["address"].startswith("/api/calendars/")
    assert again.json() == {**first.json(), "address": None}
    token = Feed(0, first.json()["address"]).token
    [row] = await database.rows("SELECT body FROM idempotency_keys")
    assert token.encode() not in row["body"]
    assert token not in str(await database.events())


async def test_the_token_is_in_no_log_and_no_metric(practice: Practice, database: Database) -> None:
    await practice.type()
    feed = await new_feed(practice, practice.people.client)
    with capture_logs() as logs:
        await read(practice, feed)
        await practice.client.head(feed.path)
        await practice.client.post(feed.path)
        async with database.admin() as admin:
            await admin.execute("ALTER TABLE calendar_feeds RENAME TO hidden_feeds")
            try:
                assert (await read(practice, feed)).status_code == 500
            finally:
                await admin.execute("ALTER TABLE hidden_feeds RENAME TO calendar_feeds")
    routes = [entry["route"] for entry in logs if entry["event"] == "request"]
    assert len(routes) == 4
    assert set(routes) <= {"/api/calendars/{token}.ics", "unmatched"}
    assert routes.count("unmatched") <= 1  # of the method that the path does not offer
    assert "request_failed" in [entry["event"] for entry in logs]
    assert feed.token not in repr(logs)
    assert feed.token not in generate_latest().decode()


async def test_long_names_are_folded(practice: Practice) -> None:
    await practice.add_therapist()
    people = practice.people
    name = "Ruhe; Kraft, Bewegung " * 6
    body = {"name": name.strip(), "duration_minutes": 60, "therapist_id": THERAPIST}
    lesson = await send(practice.client, "POST", f"{HOME}/classes", people.owner, body)
    await practice.session(starts_at=at(3), therapy_class_id=lesson["id"])
    answer = await read(practice, await new_feed(practice, people.therapist))
    escaped = name.strip().replace(";", "\\;").replace(",", "\\,")
    assert fold(f"SUMMARY:{escaped}") in answer.text
    assert max(len(line) for line in answer.content.split(b"\r\n")) <= 75
