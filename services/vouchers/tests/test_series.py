"""Series of sessions: made up to the horizon, changed from a day on, ended."""

import asyncio
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from services.vouchers.scheduling.wallclock import instants_of, local_time
from services.vouchers.service.series_dates import HORIZON
from services.vouchers.service.series_sessions import extend_series
from services.vouchers.tests.outside import ORGANIZATION
from services.vouchers.tests.practice import HOME, THERAPIST, Practice, at, day_of, send
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

PATH = f"{HOME}/session-series"
GROUP: dict[str, Any] = {"max_clients_per_session": 4, "frequency": "weekly", "total_sessions": 20}
WEEK = timedelta(weeks=1)


class Classes:
    """A practice with a therapist and a class, and the requests about its series."""

    def __init__(self, practice: Practice, database: Database) -> None:
        self.practice = practice
        self.database = database
        self.owner = practice.people.owner
        self.class_id = 0
        self.resource_id = 0

    async def open(self) -> None:
        """Add the therapist and the class."""
        self.resource_id = (await self.practice.add_therapist())["id"]
        body = {"name": "Yoga", "duration_minutes": 60, "capacity": 4, "therapist_id": THERAPIST}
        lesson = await send(self.practice.client, "POST", f"{HOME}/classes", self.owner, body)
        self.class_id = lesson["id"]

    async def post(self, first: date, **rules: Any) -> httpx.Response:
        """Request a series of the weekday of its first date at 10:00; return the answer."""
        body = {
            "therapy_class_id": self.class_id,
            "weekdays": [first.isoweekday()],
            "start_time": "10:00",
            "first_date": str(first),
            **{name: str(rule) if isinstance(rule, date) else rule for name, rule in rules.items()},
        }
        return await self.practice.client.post(PATH, json=body, headers=self.owner)

    async def series(self, first: date, **rules: Any) -> dict[str, Any]:
        """Create a series; return it."""
        answer = await self.post(first, **rules)
        assert answer.status_code == 201, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def get(self, series: dict[str, Any]) -> dict[str, Any]:
        """Return a series as it is now."""
        result: dict[str, Any] = await send(
            self.practice.client, "GET", f"{PATH}/{series['id']}", self.owner
        )
        return result

    async def put(self, series: dict[str, Any], first: date, **changes: Any) -> httpx.Response:
        """Change a series from a day on; return the answer."""
        body = {"from": str(first), **changes}
        return await self.practice.client.put(
            f"{PATH}/{series['id']}", json=body, headers=self.owner
        )

    async def end(self, series: dict[str, Any], **body: Any) -> httpx.Response:
        """End a series; return the answer."""
        return await self.practice.client.post(
            f"{PATH}/{series['id']}/end", json=body, headers=self.owner
        )

    async def close(self, day: date) -> dict[str, Any]:
        """Close the organization on a day; return the closure."""
        body = {"starts_local": f"{day}T00:00", "ends_local": f"{day + timedelta(days=1)}T00:00"}
        result: dict[str, Any] = await send(
            self.practice.client, "POST", f"{HOME}/closures", self.owner, body
        )
        return result

    async def sessions(self, series: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a series' sessions in the order of their dates."""
        rows = await self.database.rows("SELECT * FROM sessions ORDER BY series_date, id")
        return [dict(row) for row in rows if row["series_id"] == series["id"]]

    async def move_organization(self, zone: str) -> None:
        """Let the organization have another time zone."""
        async with self.database.admin() as admin:
            await admin.execute(
                "UPDATE organization_copies SET timezone = $1 WHERE id = $2", zone, ORGANIZATION
            )

    async def forget_weeks(self, weeks: int) -> None:
        """Let all series have been extended for the last time some weeks ago."""
        async with self.database.admin() as admin:
            await admin.execute(
                "UPDATE session_series SET made_until = made_until - $1::int", 7 * weeks
            )
            await admin.execute(
                "DELETE FROM occupations WHERE session_id IN (SELECT s.id FROM sessions s"
                " JOIN session_series e ON e.id = s.series_id WHERE s.series_date > e.made_until)"
            )
            await admin.execute(
                "DELETE FROM sessions s USING session_series e"
                " WHERE e.id = s.series_id AND s.series_date > e.made_until"
            )


@pytest.fixture
async def classes(practice: Practice, database: Database) -> Classes:
    classes = Classes(practice, database)
    await classes.open()
    return classes


def _starts(rows: list[dict[str, Any]]) -> list[datetime]:
    return [row["starts_at"] for row in rows]


def _skipped_time() -> tuple[ZoneInfo, date, int]:
    """Return a zone that skips a minute of the clock on a day before the horizon."""
    # Of these three zones, one sets its clock forward within any 26 weeks.
    for name in ("Europe/Warsaw", "America/Santiago", "Australia/Sydney"):
        zone = ZoneInfo(name)
        for number in range(9, HORIZON.days - 8):
            for minute in (30, 150):
                if not instants_of(local_time(day_of(number), minute), zone):
                    return zone, day_of(number), minute
    raise AssertionError("no zone sets its clock forward")


async def test_a_series_has_its_sessions_up_to_the_horizon(
    classes: Classes, transactions: Transactions
) -> None:
    series = await classes.series(day_of(3))
    rows = await classes.sessions(series)
    assert _starts(rows) == [at(3 + 7 * number) for number in range(len(rows))]
    assert len(rows) == 26
    assert {row["capacity"] for row in rows} == {4}
    assert (series["conflicts"], series["therapist_id"], series["name"]) == ([], THERAPIST, "Yoga")
    occupations = await classes.database.rows("SELECT * FROM occupations")
    assert len(occupations) == len(rows)
    # Making a series twice makes it once.
    assert await extend_series(transactions) == 0
    assert len(await classes.sessions(series)) == len(rows)


async def test_a_date_that_the_clock_skips_has_no_session(classes: Classes) -> None:
    zone, day, minute = _skipped_time()
    await classes.move_organization(zone.key)
    series = await classes.series(
        day - WEEK, last_date=day + WEEK, start_time=f"{minute // 60:02}:{minute % 60:02}"
    )
    rows = await classes.sessions(series)
    assert [row["series_date"] for row in rows] == [day - WEEK, day + WEEK]
    clocks = [row["starts_at"].astimezone(zone) for row in rows]
    assert {60 * clock.hour + clock.minute for clock in clocks} == {minute}
    [conflict] = series["conflicts"]
    assert (conflict["code"], conflict["date"]) == ("no_such_time", str(day))
    assert (conflict["starts_at"], conflict["session_id"]) == (None, None)


async def test_a_holiday_inside_a_series_is_reported(
    classes: Classes, transactions: Transactions
) -> None:
    holiday = await classes.close(day_of(10))
    series = await classes.series(day_of(3))
    [conflict] = series["conflicts"]
    assert (conflict["code"], conflict["date"]) == ("closed", str(day_of(10)))
    rows = await classes.sessions(series)
    assert day_of(10) not in [row["series_date"] for row in rows]
    # A closure of later concerns a session that exists.
    await classes.close(day_of(17))
    later = (await classes.get(series))["conflicts"][1]
    assert (later["code"], later["session_id"]) == ("closed", rows[1]["id"])
    path = f"{HOME}/closures/{holiday['id']}"
    await send(classes.practice.client, "DELETE", path, classes.owner)
    await classes.forget_weeks(1)
    assert await extend_series(transactions) == 2
    assert day_of(10) in [row["series_date"] for row in await classes.sessions(series)]


async def test_a_date_whose_therapist_is_taken_has_no_session(classes: Classes) -> None:
    await classes.practice.session(
        starts_at=at(10, 10, 30), duration_minutes=60, therapist_id=THERAPIST
    )
    series = await classes.series(day_of(3), last_date=day_of(17))
    assert [each["code"] for each in series["conflicts"]] == ["slot_taken"]
    assert _starts(await classes.sessions(series)) == [at(3), at(17)]


async def test_a_timer_extends_series_and_ends_them(
    classes: Classes, transactions: Transactions
) -> None:
    series = await classes.series(day_of(3))
    finite = await classes.series(day_of(4), last_date=day_of(4))
    await classes.forget_weeks(2)
    async with classes.database.admin() as admin:
        await admin.execute(
            "UPDATE session_series SET first_date = $1, last_date = $1, made_until = $1"
            " WHERE id = $2",
            day_of(-3),
            finite["id"],
        )
    numbers = await asyncio.gather(*(extend_series(transactions) for _ in range(3)))
    assert sum(numbers) == 2
    rows = await classes.sessions(series)
    assert _starts(rows) == [at(3 + 7 * number) for number in range(26)]
    assert (await classes.get(finite))["status"] == "ended"
    types = [event["type"] for event in await classes.database.events()]
    assert types.count("vouchers.session_series.updated.v1") == 1
    assert types.count("vouchers.session_series.ended.v1") == 1


async def test_bookings_move_along_when_a_series_is_edited_in_the_middle(
    classes: Classes,
) -> None:
    practice = classes.practice
    first = 14 - at(0).isoweekday() + 2  # a Tuesday
    series = await classes.series(day_of(first))
    rows = await classes.sessions(series)
    voucher = await practice.voucher(**GROUP)
    bookings = [await practice.booked(voucher["id"], session_id=row["id"]) for row in rows[:3]]
    cancel = f"/api/sessions/{rows[4]['id']}/cancel"
    await send(practice.client, "POST", cancel, classes.owner)
    answer = await classes.put(series, day_of(first + 7), weekdays=[3], start_time="14:00")
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["follows_id"], changed["start_time"]) == (series["id"], "14:00")
    old = await classes.get(series)
    assert (old["status"], old["last_date"]) == ("ended", str(day_of(first + 6)))
    assert _starts(await classes.sessions(series)) == [at(first)]
    moved = await classes.sessions(changed)
    assert _starts(moved)[:3] == [at(first + 8 + 7 * number, 14) for number in range(3)]
    assert [row["id"] for row in moved[:4]] == [row["id"] for row in rows[1:5]]
    assert [row["status"] for row in moved[:5]] == [*["scheduled"] * 3, "cancelled", "scheduled"]
    times = {
        row["id"]: (row["session_id"], row["starts_at"])
        for row in await classes.database.rows("SELECT * FROM reservations")
    }
    assert [times[each["id"]] for each in bookings] == [
        (rows[0]["id"], at(first)),
        (rows[1]["id"], at(first + 8, 14)),
        (rows[2]["id"], at(first + 15, 14)),
    ]
    # A reservation counts for its week as before, and another week is free.
    await practice.booked(voucher["id"], session_id=rows[3]["id"])
    reservations = await classes.database.rows("SELECT period FROM reservations")
    assert len({row["period"] for row in reservations} - {None}) == 4
    types = [event["type"] for event in await classes.database.events()]
    assert types.count("vouchers.reservation.rescheduled.v1") == 2
    await practice.require_sums()


async def test_sessions_of_one_client_move_past_each_other(classes: Classes) -> None:
    """While they move one by one, Monday at 23:30 overlaps Tuesday at 00:00."""
    practice = classes.practice
    first = 15 - at(0).isoweekday()  # a Monday
    series = await classes.series(
        day_of(first), weekdays=[1, 2], last_date=day_of(first + 1), start_time="00:00"
    )
    voucher = await practice.voucher(**{**GROUP, "frequency": "daily"})
    for row in await classes.sessions(series):
        await practice.booked(voucher["id"], session_id=row["id"])
    answer = await classes.put(series, day_of(first), start_time="23:30")
    assert answer.status_code == 200, answer.text
    rows = await classes.database.rows("SELECT * FROM reservations ORDER BY starts_at")
    assert _starts(rows) == [at(first, 23, 30), at(first + 1, 23, 30)]
    assert {row["may_overlap"] for row in rows} == {False}
    assert len({row["period"] for row in rows} - {None}) == 2
    await practice.require_sums()


async def test_a_change_asks_before_it_cancels_what_is_booked(classes: Classes) -> None:
    practice = classes.practice
    series = await classes.series(day_of(3), last_date=day_of(17))
    rows = await classes.sessions(series)
    voucher = await practice.voucher(**GROUP)
    booked = await practice.booked(voucher["id"], session_id=rows[1]["id"])
    weekday = day_of(4).isoweekday()
    answer = await classes.put(series, day_of(3), every_weeks=2, weekdays=[weekday])
    assert (answer.status_code, answer.json()["code"]) == (409, "series_booked")
    assert answer.json()["reservations"] == [booked["id"]]
    assert (await classes.get(series))["status"] == "active"
    released = await classes.put(
        series, day_of(3), every_weeks=2, weekdays=[weekday], release_reservations=True
    )
    assert released.status_code == 200, released.text
    [row] = await classes.database.rows("SELECT * FROM reservations")
    assert (row["status"], row["reason"]) == ("cancelled", "session_cancelled")
    await practice.require_sums()


async def test_the_end_of_a_series(classes: Classes) -> None:
    practice = classes.practice
    series = await classes.series(day_of(3))
    rows = await classes.sessions(series)
    voucher = await practice.voucher(**GROUP)
    await practice.booked(voucher["id"], session_id=rows[0]["id"])
    booked = await practice.booked(voucher["id"], session_id=rows[2]["id"])
    answer = await classes.end(series, last_date=str(day_of(10)))
    assert (answer.status_code, answer.json()["code"]) == (409, "series_booked")
    assert answer.json()["reservations"] == [booked["id"]]
    ended = await classes.end(series, last_date=str(day_of(10)), release_reservations=True)
    assert ended.status_code == 200, ended.text
    assert (ended.json()["status"], ended.json()["last_date"]) == ("ended", str(day_of(10)))
    states = [row["status"] for row in await classes.sessions(series)]
    assert states == ["scheduled"] * 2 + ["cancelled"] * 24
    occupations = await classes.database.rows("SELECT * FROM occupations")
    assert len(occupations) == 2
    again = await classes.end(series)
    assert (again.status_code, again.json()["code"]) == (409, "series_ended")
    await practice.require_sums()


async def test_capacity_is_not_lowered_below_the_seats(classes: Classes) -> None:
    practice = classes.practice
    series = await classes.series(day_of(3), last_date=day_of(10))
    [row, _] = await classes.sessions(series)
    kind = await practice.type(**GROUP)
    for headers in (practice.people.client, practice.people.second_client):
        voucher = await practice.voucher_of(headers, kind["id"])
        await practice.booked(voucher["id"], headers, session_id=row["id"])
    answer = await classes.put(series, day_of(3), capacity=1)
    assert (answer.status_code, answer.json()["code"]) == (409, "capacity_taken")
    single = f"/api/sessions/{row['id']}"
    answer = await practice.client.put(single, json={"capacity": 1}, headers=classes.owner)
    assert (answer.status_code, answer.json()["code"]) == (409, "capacity_taken")
    lowered = await classes.put(series, day_of(3), capacity=2)
    assert lowered.status_code == 200, lowered.text
    assert {each["capacity"] for each in await classes.sessions(lowered.json())} == {2}


async def test_a_series_every_two_weeks_keeps_its_weeks(classes: Classes) -> None:
    first = 15 - at(0).isoweekday()  # a Monday
    series = await classes.series(day_of(first), every_weeks=2)
    answer = await classes.put(series, day_of(first + 8), start_time="11:00")
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert changed["first_date"] == str(day_of(first + 14))
    assert _starts(await classes.sessions(changed))[:3] == [
        at(first + 14 * number, 11) for number in (1, 2, 3)
    ]


async def test_an_organization_that_moves_is_asked_about_its_series(classes: Classes) -> None:
    series = await classes.series(day_of(3), last_date=day_of(10))
    await classes.move_organization("Europe/London")
    asking = await classes.get(series)
    assert (asking["timezone"], asking["new_timezone"]) == ("Europe/Warsaw", "Europe/London")
    assert _starts(await classes.sessions(series)) == [at(3), at(10)]
    other = await classes.put(series, day_of(3), timezone="Asia/Tokyo")
    assert other.status_code == 422
    same = (await classes.put(series, day_of(3), timezone="Europe/Warsaw")).json()
    assert (same["id"], same["new_timezone"]) == (series["id"], None)
    moved = (await classes.put(series, day_of(3), timezone="Europe/London")).json()
    assert (moved["timezone"], moved["new_timezone"]) == ("Europe/London", None)
    starts = _starts(await classes.sessions(moved))
    assert [start.astimezone(ZoneInfo("Europe/London")).hour for start in starts] == [10, 10]
    assert starts[0] != at(3)


async def test_wrong_series_are_refused(classes: Classes) -> None:
    practice = classes.practice
    for rules, status in (
        ({"weekdays": []}, 422),
        ({"weekdays": [1, 1]}, 422),
        ({"start_time": "24:00"}, 422),
        ({"every_weeks": 0}, 422),
        ({"last_date": day_of(2)}, 422),
        ({"therapist_id": 999}, 404),
        ({"therapy_class_id": 999}, 404),
        ({"resource_ids": [999]}, 404),
    ):
        answer = await classes.post(day_of(3), **rules)
        assert answer.status_code == status, (rules, answer.text)
    assert (await classes.post(day_of(-2))).status_code == 422
    series = await classes.series(day_of(3), last_date=day_of(10))
    assert (await classes.put(series, day_of(-1), start_time="11:00")).status_code == 422
    far = await classes.put(series, day_of(300), start_time="11:00")
    assert far.status_code == 422
    beyond = await classes.end(series, last_date=str(day_of(11)))
    assert beyond.status_code == 422
    path = f"{PATH}/{series['id']}"
    stale = {**classes.owner, "If-Match": '"77"'}
    body = {"from": str(day_of(3)), "start_time": "11:00"}
    answer = await practice.client.put(path, json=body, headers=stale)
    assert answer.status_code == 412
    for headers, status in ((practice.people.client, 403), (practice.people.other_owner, 404)):
        assert (await practice.client.get(path, headers=headers)).status_code == status
