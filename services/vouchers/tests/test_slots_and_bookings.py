"""What is shown as free can be booked, and nothing else: for any calendar, in any time zone."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.vouchers.tests.outside import ORGANIZATION
from services.vouchers.tests.practice import HOME, THERAPIST, Practice, send
from services.vouchers.tests.stage import Stage

DAYS = 2
HALF_HOUR = timedelta(minutes=30)
ZONES = st.sampled_from(sorted(available_timezones() - {"localtime"}))
CLOCK = st.integers(0, 47).map(lambda half: f"{half // 2:02}:{half % 2 * 30:02}")


def _stretches(least: int, most: int) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Return lists of times of the clock, each with a later one."""
    pair = st.tuples(CLOCK, CLOCK).filter(lambda each: each[0] < each[1])
    return st.lists(pair, min_size=least, max_size=most)


CALENDARS = st.fixed_dictionaries(
    {
        "zone": ZONES,
        "hours": _stretches(1, 3),
        "rules": _stretches(0, 1),
        "closed": _stretches(0, 2),
        "opened": _stretches(0, 1),
        "buffer": st.sampled_from([0, 15, 45]),
        "duration": st.sampled_from([30, 60, 90]),
        "booked": st.lists(st.integers(0, 47), max_size=2),
        "frozen": st.booleans(),
    }
)


class Shop:
    """A practice whose calendar is set anew for each example."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.practice = Practice(stage.client, stage.people, stage.database)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        owner = self.stage.people.owner
        return self.stage.run(send(self.stage.client, method, path, owner, body))

    def open(self, calendar: dict[str, Any]) -> tuple[int, date]:
        """Set a calendar, sell a voucher; return it and the first day, which is in three days."""
        stage = self.stage
        stage.run(stage.database.clear())
        resource = stage.run(self.practice.add_therapist(hours=[]))
        stage.run(
            stage.admin.execute(
                "UPDATE organization_copies SET timezone = $1, version = version + 1 WHERE id = $2",
                calendar["zone"],
                ORGANIZATION,
            )
        )
        first = datetime.now(ZoneInfo(calendar["zone"])).date() + timedelta(days=3)
        self._set_calendar(resource, calendar, first)
        rules = {
            day: {"enabled": True, "start_time": start, "end_time": end}
            for start, end in calendar["rules"]
            for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
        }
        voucher = stage.run(
            self.practice.voucher(
                session_duration_minutes=calendar["duration"], booking_rules=rules
            )
        )
        if calendar["frozen"]:
            frozen = {"starts_on": str(first), "ends_on": str(first), "reason": "Holiday"}
            self.send("POST", f"/api/vouchers/{voucher['id']}/freezes", frozen)
        return voucher["id"], first

    def _set_calendar(
        self, resource: dict[str, Any], calendar: dict[str, Any], first: date
    ) -> None:
        path = f"{HOME}/resources/{resource['id']}"
        self.send("PUT", path, {"buffer_after_minutes": calendar["buffer"]})
        hours = [
            {"weekday": weekday, "start_time": start, "end_time": end}
            for start, end in calendar["hours"]
            for weekday in range(1, 8)
        ]
        self.send("PUT", f"{path}/working-hours", {"hours": hours})
        for kind in ("closed", "opened"):
            for start, end in calendar[kind]:
                closure = {
                    "resource_id": resource["id"],
                    "kind": "closed" if kind == "closed" else "open",
                    "starts_local": f"{first}T{start}:00",
                    "ends_local": f"{first}T{end}:00",
                }
                self.send("POST", f"{HOME}/closures", closure)
        for half in calendar["booked"]:
            starts_at = datetime.combine(first, datetime.min.time(), UTC) + half * HALF_HOUR
            session = {
                "starts_at": starts_at.isoformat(),
                "duration_minutes": 45,
                "therapist_id": THERAPIST,
                "allow_overlap": True,
                "capacity": 2,
            }
            self.send("POST", f"{HOME}/sessions", session)

    def slots(self, voucher_id: int, first: date) -> set[datetime]:
        """Return the starts of the slots of the days."""
        last = first + timedelta(days=DAYS - 1)
        path = f"/api/vouchers/{voucher_id}/slots?from={first}&until={last}&limit=200"
        return {_instant(slot["starts_at"]) for slot in self.send("GET", path)}

    def bookable(self, voucher_id: int, starts: Iterable[datetime]) -> set[datetime]:
        """Return the starts at which a session can be booked."""
        path = f"/api/vouchers/{voucher_id}/eligibility"
        bookable = set()
        for start in starts:
            wish = {"starts_at": start.isoformat(), "therapist_id": THERAPIST}
            if self.send("POST", path, wish)["eligible"]:
                bookable.add(start)
        return bookable


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _starts(zone: str, first: date) -> list[datetime]:
    """Return each instant of the days at which the clock shows a full or a half hour."""
    begins = datetime.combine(first, datetime.min.time(), ZoneInfo(zone)).astimezone(UTC)
    ends = datetime.combine(first + timedelta(days=DAYS), datetime.min.time(), ZoneInfo(zone))
    instants = [begins]
    while instants[-1] + HALF_HOUR < ends.astimezone(UTC):
        instants.append(instants[-1] + HALF_HOUR)
    local = [instant.astimezone(ZoneInfo(zone)) for instant in instants]
    return [
        instant
        for instant, shown in zip(instants, local, strict=True)
        if first <= shown.date() < first + timedelta(days=DAYS) and shown.minute % 30 == 0
    ]


def test_slots_are_what_can_be_booked(stage: Stage) -> None:
    shop = Shop(stage)

    @hypothesis_settings(max_examples=6)
    @given(calendar=CALENDARS)
    def check(calendar: dict[str, Any]) -> None:
        voucher_id, first = shop.open(calendar)
        starts = _starts(calendar["zone"], first)
        assert shop.slots(voucher_id, first) == shop.bookable(voucher_id, starts)

    check()
