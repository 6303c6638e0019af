"""The steps of the story about bookings: hours, slots, series, waiting list, attendance, feed."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from deploy.api_client import Person, require, unique
from deploy.demo.story import EVENTUALLY, Story

ZONE = ZoneInfo("Europe/Warsaw")
ONE_DAY = timedelta(days=1)
A_WEEK = timedelta(days=7)
BEGINS_WITHIN = 90.0
"""In how many seconds a session of the next minute has begun for certain."""

PACKAGE: dict[str, Any] = {
    "name": "Ten weekly sessions",
    "session_name": "Individual therapy",
    "total_sessions": 10,
    "backup_sessions": 2,
    "session_duration_minutes": 60,
    "max_clients_per_session": 1,
    "frequency": "weekly",
    "price": 390.0,
    "validity_days": 180,
    # Tomorrow's session is cancelled late, whatever the time of the day is.
    "booking_policy": {"opens_days": 180, "closes_minutes": 0, "notice_minutes": 2880},
}


class Bookings:
    """The users of a story who book, and what they book.

    All times follow from today, on the clock of the organization.
    """

    def __init__(self, story: Story) -> None:
        self.story = story
        self.page = story.page
        self.owner, self.therapist, self.client = story.owner, story.therapist, story.client
        self.second_client = Person(
            story.api, "Carl Client", f"{unique('carl')}@example.com", story.client.password
        )
        self.here = f"/api/organizations/{story.organization['id']}"
        today = datetime.now(ZONE).date()
        self.today = today
        self.first_monday = today + timedelta(days=8 - today.isoweekday())
        self.therapist_id = 0
        self.resource: dict[str, Any] = {}
        self.vouchers: dict[str, int] = {}
        self.booked: dict[str, Any] = {}

    async def run(self) -> None:
        """Run the steps. Raises UnexpectedAnswer when one does not end as expected."""
        for step in (
            self.open_calendar,
            self.book_one_session,
            self.cancel_late,
            self.learn_every_reason,
            self.book_every_week,
            self.wait_for_a_seat,
            self.mark_attendance,
            self.subscribe_to_a_feed,
        ):
            await step()

    async def open_calendar(self) -> None:
        """The owner sets hours, a closure, holidays and a room, and sells two vouchers."""
        self.page.step(7, "The owner opens the calendar")
        self.resource = await self._resource_of_the_therapist()
        self.therapist_id = self.resource["user_id"]
        path = f"{self.here}/resources/{self.resource['id']}/working-hours"
        hours = [
            {"weekday": weekday, "start_time": "08:00", "end_time": "20:00"}
            for weekday in range(1, 8)
        ]
        await self.owner.call("PUT", path, {"hours": hours})
        self.page.exchange(f"PUT {path}", "the therapist works every day from 8 to 20")
        await self._close_holidays()
        await self._close(self._day(1), "Training")
        for client in (self.client, self.second_client):
            await self._sell(client)

    async def _close_holidays(self) -> None:
        """Close the public holidays, and work on tomorrow's all the same if it is one.

        The story begins on a Monday that is none.
        """
        path = f"{self.here}/closures"
        closed: set[date] = set()
        for year in sorted({self.today.year, self._day(7 * 20).year}):
            body = {"country": "PL", "year": year}
            holidays = await self.owner.call("POST", f"{path}/holidays", body)
            require(holidays["created"] > 0, "a year has holidays")
            self.page.exchange(
                f"POST {path}/holidays",
                f"{holidays['created']} public holidays of {year} are closed",
            )
            for closure in holidays["closures"]:
                day = datetime.fromisoformat(closure["starts_local"]).date()
                closed.add(day)
                if day == self.today + ONE_DAY:
                    await self.owner.call("DELETE", f"{path}/{closure['id']}")
                    self.page.exchange(f"DELETE {path}/{closure['id']}", f"open on {day}")
        while self.first_monday in closed:
            self.first_monday += A_WEEK

    async def _resource_of_the_therapist(self) -> dict[str, Any]:
        """Return the therapist's resource, which follows soon after the user was created."""
        async with asyncio.timeout(EVENTUALLY):
            while True:
                for resource in await self.owner.call("GET", f"{self.here}/resources"):
                    if resource["kind"] == "therapist":
                        found: dict[str, Any] = resource
                        return found
                await asyncio.sleep(0.2)

    def _day(self, number: int) -> date:
        """Return a day counted from the Monday of next week, which is 0."""
        return self.first_monday + number * ONE_DAY

    async def _close(self, day: date, reason: str) -> list[dict[str, Any]]:
        """Close the therapist on a day; return the reservations that are outside of hours now."""
        body = {
            "resource_id": self.resource["id"],
            "starts_local": f"{day}T00:00:00",
            "ends_local": f"{day + ONE_DAY}T00:00:00",
            "reason": reason,
        }
        closure = await self.owner.call("POST", f"{self.here}/closures", body, expect=201)
        conflicts: list[dict[str, Any]] = closure["conflicts"]
        self.page.exchange(
            f"POST {self.here}/closures", f"{day} is closed, conflicts: {len(conflicts)}"
        )
        return conflicts

    async def _sell(self, client: Person) -> None:
        """Add a client to the organization if they have no account, and let them buy."""
        types = await self.owner.call("GET", f"{self.here}/voucher-types")
        offered = next((each for each in types if each["name"] == PACKAGE["name"]), None)
        if offered is None:
            path = f"{self.here}/voucher-types"
            offered = await self.owner.call("POST", path, PACKAGE, expect=201)
        if client.token is None:
            account = {"email": client.email, "name": client.name, "password": client.password}
            path = f"{self.here}/users"
            await self.owner.call("POST", path, {**account, "role": "client"}, expect=201)
            await client.sign_in()
        body = {
            "voucher_type_id": offered["id"],
            "payment_method": "credit_card",
            "payment_token": "pm_card_visa",
        }
        voucher = await client.call(
            "POST", "/api/vouchers/purchase", body, expect=201, key=unique("purchase")
        )
        self.vouchers[client.email] = voucher["id"]
        self.page.exchange("POST /api/vouchers/purchase", f"{client.name} buys “{PACKAGE['name']}”")

    def _reservations(self, client: Person) -> str:
        return f"/api/vouchers/{self.vouchers[client.email]}/reservations"

    async def book_one_session(self) -> None:
        """The client looks at a month and a day, books a slot, moves it and cancels in time."""
        self.page.step(8, "The client books, moves and cancels a session")
        voucher = f"/api/vouchers/{self.vouchers[self.client.email]}"
        first, last = self._day(0), self._day(30)
        days = await self.client.call(
            "GET", f"{voucher}/slot-days", params={"from": str(first), "until": str(last)}
        )
        open_days = [day for day in days if day["slots"]]
        require(days[1]["slots"] == 0, "the closed day has no slots")
        self.page.exchange(
            f"GET {voucher}/slot-days", f"{len(open_days)} of {len(days)} days have slots"
        )
        day = open_days[0]["date"]
        slots = await self.client.call(
            "GET", f"{voucher}/slots", params={"from": day, "until": day}
        )
        self.page.exchange(f"GET {voucher}/slots", f"{len(slots)} slots on {day}")
        chosen = {"starts_at": slots[0]["starts_at"], "therapist_id": self.therapist_id}
        path = self._reservations(self.client)
        reservation = await self.client.call(
            "POST", path, chosen, expect=201, key=unique("booking")
        )
        require(reservation["booked_sessions"] == 1, "a session of the voucher is earmarked")
        self.page.exchange(f"POST {path}", self._place(reservation))
        self.booked = reservation
        path = f"/api/reservations/{reservation['id']}"
        chosen["starts_at"] = slots[-1]["starts_at"]
        moved = await self.client.call("POST", f"{path}/reschedule", chosen)
        require(moved["starts_at"] == slots[-1]["starts_at"], "the session is moved")
        self.page.exchange(f"POST {path}/reschedule", self._place(moved))
        cancelled = await self.client.call("POST", f"{path}/cancel", {})
        require(
            (cancelled["status"], cancelled["bookable_sessions"]) == ("cancelled", 10),
            "a cancellation in time is free",
        )
        self.page.exchange(f"POST {path}/cancel", "in time: all ten sessions can be booked again")

    def _place(self, reservation: dict[str, Any]) -> str:
        return (
            f"reservation {reservation['id']}: {reservation['status']},"
            f" {reservation['starts_at'][:16]}, free of charge until"
            f" {reservation['free_until'][:16]}"
        )

    async def cancel_late(self) -> None:
        """The client cancels tomorrow's session: is shown the price first, and accepts it."""
        self.page.step(9, "The client cancels late")
        starts_at = datetime.combine(self.today + ONE_DAY, datetime.min.time(), ZONE)
        choice = {
            "starts_at": (starts_at + timedelta(hours=10)).isoformat(),
            "therapist_id": self.therapist_id,
        }
        path = self._reservations(self.client)
        reservation = await self.client.call("POST", path, choice, expect=201)
        path = f"/api/reservations/{reservation['id']}"
        price = await self.client.call("GET", f"{path}/cancellation")
        require((price["late"], price["charges"]) == (True, "backup"), "the price is a backup")
        self.page.exchange(
            f"GET {path}/cancellation", "tomorrow's session costs a backup session now"
        )
        error = await self.client.call("POST", f"{path}/cancel", {}, expect=409)
        self.page.exchange(f"POST {path}/cancel", f"409 {error['code']}: {error['detail']}")
        paid = await self.client.call("POST", f"{path}/cancel", {"accept_charge": True})
        require(
            (paid["status"], paid["backup_sessions_left"]) == ("late_cancelled", 1),
            "one backup session is used",
        )
        self.page.exchange(
            f"POST {path}/cancel", "the client accepts: one of two backup sessions is used"
        )

    async def learn_every_reason(self) -> None:
        """A refusal states every reason, who may override it, and the next times that fit."""
        self.page.step(10, "Whoever is refused learns every reason")
        path = self._reservations(self.client)
        choice = {"starts_at": self._at(0, 10), "therapist_id": self.therapist_id}
        kept = await self.client.call("POST", path, choice, expect=201)
        choice["starts_at"] = self._at(1, 10)
        error = await self.client.call("POST", path, choice, expect=409)
        codes = [reason["code"] for reason in error["reasons"]]
        require(
            codes == ["frequency_reached", "therapist_unavailable"],
            "one session a week is booked, and the therapist is away",
        )
        for reason in error["reasons"]:
            until = f", until {reason['until']}" if reason["until"] else ""
            who = "staff may override it" if reason["overridable"] else "nobody may override it"
            self.page.exchange(
                f"POST {path}", f"409 {reason['code']}: {reason['detail']} ({who}{until})"
            )
        slots = error["next_slots"]
        require(len(slots) == 3, "three times fit")
        times = ", ".join(slot["starts_at"][:16] for slot in slots)
        self.page.exchange(f"POST {path}", f"next times that fit: {times}")
        await self.client.call("POST", f"/api/reservations/{kept['id']}/cancel", {})

    def _at(self, day: int, hour: int) -> str:
        """Return a full hour of a day that is counted from the Monday of next week."""
        midnight = datetime.combine(self._day(day), datetime.min.time(), ZONE)
        return (midnight + timedelta(hours=hour)).isoformat()

    async def book_every_week(self) -> None:
        """The client books the same time of the week for all that is left; a closure conflicts."""
        self.page.step(11, "The client books every week at ten for all that is left")
        path = f"{self._reservations(self.client)}/series"
        first = self._day(2)
        body = {
            "first_date": str(first),
            "weekdays": [first.isoweekday()],
            "start_time": "10:00",
            "therapist_id": self.therapist_id,
            "on_conflict": "append",
        }
        plan = await self.client.call("POST", path, {**body, "dry_run": True})
        require(plan["booked_sessions"] == 0, "a dry run books nothing")
        result = await self.client.call("POST", path, body)
        dates = [each for each in result["dates"] if each["reservation_id"]]
        require((len(dates), result["bookable_sessions"]) == (10, 0), "all ten sessions are booked")
        self.page.exchange(
            f"POST {path}", f"ten sessions from {dates[0]['date']} to {dates[-1]['date']}"
        )
        conflicts = await self._close(date.fromisoformat(dates[3]["date"]), "Conference")
        numbers = [conflict["reservation_id"] for conflict in conflicts]
        require(numbers == [dates[3]["reservation_id"]], "the owner sees who is affected")

    async def wait_for_a_seat(self) -> None:
        """A session of a class is full: a client waits, and gets the seat that becomes free."""
        self.page.step(12, "A client waits for a seat, and gets it")
        seat = await self._session_of_a_class()
        await self._cancel_the_last()
        path = self._reservations(self.second_client)
        taken = await self.second_client.call("POST", path, {"session_id": seat}, expect=201)
        self.page.exchange(f"POST {path}", f"{self.second_client.name} has the last seat")
        path = self._reservations(self.client)
        wish = {"session_id": seat}
        error = await self.client.call("POST", path, wish, expect=409)
        self.page.exchange(f"POST {path}", f"409 {error['code']}: {error['detail']}")
        waiting = await self.client.call("POST", path, {**wish, "waitlist": True}, expect=201)
        require(waiting["waiting_position"] == 1, "the client is the first who waits")
        self.page.exchange(f"POST {path}", f"{self.client.name} waits, as number 1")
        path = f"/api/reservations/{taken['id']}/cancel"
        await self.second_client.call("POST", path, {})
        promoted = await self.client.call("GET", f"/api/reservations/{waiting['id']}")
        require(promoted["status"] == "booked", "the seat is given in the same transaction")
        self.page.exchange(
            f"POST {path}", f"{self.second_client.name} cancels: {self.client.name} has the seat"
        )

    async def _cancel_the_last(self) -> None:
        """Cancel the last session of the client, who has booked everything."""
        mine = await self.client.call("GET", "/api/reservations/my", params={"status": "booked"})
        last = max(mine, key=lambda each: str(each["starts_at"]))
        await self.client.call("POST", f"/api/reservations/{last['id']}/cancel", {})

    async def _session_of_a_class(self) -> int:
        """Create a room, a class and a series of it; return its first session."""
        room = await self.owner.call(
            "POST", f"{self.here}/resources", {"kind": "room", "name": "Blue room"}, expect=201
        )
        body = {"name": "Consultation", "therapist_id": self.therapist_id, "room_id": room["id"]}
        created = await self.owner.call("POST", f"{self.here}/classes", body, expect=201)
        # In a week that the series of the client does not reach.
        first = self._day(7 * 20)
        series = await self.owner.call(
            "POST",
            f"{self.here}/session-series",
            {
                "therapy_class_id": created["id"],
                "weekdays": [first.isoweekday()],
                "start_time": "16:00",
                "first_date": str(first),
                "last_date": str(first + A_WEEK),
            },
            expect=201,
        )
        without = [
            f"not on {conflict['date']}: {conflict['code']}" for conflict in series["conflicts"]
        ]
        self.page.exchange(
            f"POST {self.here}/session-series",
            ", ".join([f"“{created['name']}” from {first} on, in the blue room", *without]),
        )
        sessions = await self.owner.call(
            "GET",
            f"{self.here}/sessions",
            params={"from": self._at(7 * 20, 0), "until": self._at(7 * 21 + 1, 0)},
        )
        return int(min(sessions, key=lambda each: str(each["starts_at"]))["id"])

    async def mark_attendance(self) -> None:
        """Two sessions begin with the next minute; the therapist marks who was there."""
        self.page.step(13, "The therapist marks attendance and a no-show")
        await self._cancel_the_last()
        begins = (datetime.now(UTC) + timedelta(seconds=65)).replace(second=0, microsecond=0)
        places = [
            await self._book_now(client, begins) for client in (self.client, self.second_client)
        ]
        self.page.exchange(
            f"POST {self.here}/sessions", f"two sessions begin at {begins:%H:%M} UTC, soon"
        )
        path = f"{self.here}/reservations"
        day = await self.therapist.call("GET", path, params={"status": "booked"})
        shown = {each["id"] for each in day} & {each["id"] for each in places}
        require(len(shown) == 2, "the therapist sees both sessions")
        self.page.exchange(f"GET {path}", f"{len(day)} sessions are booked with the therapist")
        for place, (mark, status) in zip(
            places, (("attend", "attended"), ("no-show", "no_show")), strict=True
        ):
            path = f"/api/reservations/{place['id']}/{mark}"
            marked = await self._once_begun(path)
            require(marked["status"] == status, f"the session is marked as {status}")
            self.page.exchange(
                f"POST {path}",
                f"{status}: {marked['regular_sessions_left']} regular and"
                f" {marked['backup_sessions_left']} backup sessions left",
            )

    async def _book_now(self, client: Person, begins: datetime) -> dict[str, Any]:
        body = {
            "starts_at": begins.isoformat(),
            "duration_minutes": 30,
            "therapist_id": self.therapist_id,
            "allow_overlap": True,
        }
        session = await self.owner.call("POST", f"{self.here}/sessions", body, expect=201)
        wish = {
            "session_id": session["id"],
            "override": ["therapist_unavailable"],
            "override_reason": "Walk-in",
        }
        path = self._reservations(client)
        reservation: dict[str, Any] = await self.owner.call("POST", path, wish, expect=201)
        return reservation

    async def _once_begun(self, path: str) -> dict[str, Any]:
        """Mark a reservation as soon as its session has begun; return the mark."""
        async with asyncio.timeout(BEGINS_WITHIN):
            while True:
                answer = await self.story.api.post(
                    path, headers={"Authorization": f"Bearer {self.therapist.token}"}
                )
                body: dict[str, Any] = answer.json()
                if body.get("code") != "not_started":
                    require(answer.is_success, f"the therapist marks, not: {answer.text}")
                    return body
                await asyncio.sleep(0.5)

    async def subscribe_to_a_feed(self) -> None:
        """The therapist's sessions appear in a calendar elsewhere."""
        self.page.step(14, "The therapist subscribes to the sessions in another calendar")
        path = "/api/calendar-feeds"
        feed = await self.therapist.call("POST", path, {}, expect=201, key=unique("feed"))
        address = feed["address"]
        self.page.exchange(f"POST {path}", "the address of the feed, shown once")
        answer = await self.story.api.get(address[address.index("/api/calendars/") :])
        require(answer.headers["content-type"].startswith("text/calendar"), "it is a calendar")
        number = answer.text.count("BEGIN:VEVENT")
        require(number >= 10, "the sessions are in the feed")
        self.page.exchange("GET /api/calendars/….ics", f"{number} sessions, without names")
