"""The steps of the story about bookings: hours, slots, series, waiting list, attendance, feed."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from deploy.api_client import Person, require, unique
from deploy.demo.calendar import A_WEEK, ONE_DAY, Calendar
from deploy.demo.story import Story

ZONE = ZoneInfo("Europe/Warsaw")
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
        self.calendar = Calendar(story.owner, self.here, story.page)
        self.vouchers: dict[str, int] = {}

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
        await self.calendar.open()
        self.therapist_id = self.calendar.resource["user_id"]
        years = {self.today.year, self._day(7 * 20).year}
        holidays = await self.calendar.close_holidays(years, but=self.today + ONE_DAY)
        # The story begins on a Monday that is none.
        while self.first_monday in holidays:
            self.first_monday += A_WEEK
        await self.calendar.close(self._day(1), "Training")
        for client in (self.client, self.second_client):
            await self._sell(client)

    def _day(self, number: int) -> date:
        """Return a day counted from the Monday of next week, which is 0."""
        return self.first_monday + number * ONE_DAY

    async def _sell(self, client: Person) -> None:
        """Add a client to the organization if they have no account, and let them buy."""
        types = await self.owner.call("GET", f"{self.here}/voucher-types")
        offer = next((each for each in types if each["name"] == PACKAGE["name"]), None)
        if offer is None:
            path = f"{self.here}/voucher-types"
            offer = await self.owner.call("POST", path, PACKAGE, expect=201)
        if client.token is None:
            account = {"email": client.email, "name": client.name, "password": client.password}
            path = f"{self.here}/users"
            await self.owner.call("POST", path, {**account, "role": "client"}, expect=201)
            await client.sign_in()
        body = {
            "voucher_type_id": offer["id"],
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
        choice = {"starts_at": slots[0]["starts_at"], "therapist_id": self.therapist_id}
        path = self._reservations(self.client)
        reservation = await self.client.call(
            "POST", path, choice, expect=201, key=unique("booking")
        )
        require(reservation["booked_sessions"] == 1, "a session of the voucher is earmarked")
        self.page.exchange(f"POST {path}", self._place(reservation))
        path = f"/api/reservations/{reservation['id']}"
        choice["starts_at"] = slots[-1]["starts_at"]
        after_move = await self.client.call("POST", f"{path}/reschedule", choice)
        require(after_move["starts_at"] == slots[-1]["starts_at"], "the session is moved")
        self.page.exchange(f"POST {path}/reschedule", self._place(after_move))
        cancellation = await self.client.call("POST", f"{path}/cancel", {})
        require(
            (cancellation["status"], cancellation["bookable_sessions"]) == ("cancelled", 10),
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
        late = await self.client.call("POST", f"{path}/cancel", {"accept_charge": True})
        require(
            (late["status"], late["backup_sessions_left"]) == ("late_cancelled", 1),
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
        monday = await self.client.call("POST", path, choice, expect=201)
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
        await self.client.call("POST", f"/api/reservations/{monday['id']}/cancel", {})

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
        conflicts = await self.calendar.close(date.fromisoformat(dates[3]["date"]), "Conference")
        numbers = [conflict["reservation_id"] for conflict in conflicts]
        require(numbers == [dates[3]["reservation_id"]], "the owner sees who is affected")

    async def wait_for_a_seat(self) -> None:
        """A session of a class is full: a client waits, and gets the seat that becomes free."""
        self.page.step(12, "A client waits for a seat, and gets it")
        # In a week that the series of the client does not reach.
        seat = await self.calendar.session_of_a_class(self._day(7 * 20))
        await self._cancel_the_last()
        path = self._reservations(self.second_client)
        place = await self.second_client.call("POST", path, {"session_id": seat}, expect=201)
        self.page.exchange(f"POST {path}", f"{self.second_client.name} has the last seat")
        path = self._reservations(self.client)
        wish = {"session_id": seat}
        error = await self.client.call("POST", path, wish, expect=409)
        self.page.exchange(f"POST {path}", f"409 {error['code']}: {error['detail']}")
        waiting = await self.client.call("POST", path, {**wish, "waitlist": True}, expect=201)
        require(waiting["waiting_position"] == 1, "the client is the first who waits")
        self.page.exchange(f"POST {path}", f"{self.client.name} waits, as number 1")
        path = f"/api/reservations/{place['id']}/cancel"
        await self.second_client.call("POST", path, {})
        seat_of_client = await self.client.call("GET", f"/api/reservations/{waiting['id']}")
        require(seat_of_client["status"] == "booked", "the seat is given in the same transaction")
        self.page.exchange(
            f"POST {path}", f"{self.second_client.name} cancels: {self.client.name} has the seat"
        )

    async def _cancel_the_last(self) -> None:
        """Cancel the last session of the client, who has booked everything."""
        mine = await self.client.call("GET", "/api/reservations/my", params={"status": "booked"})
        last = max(mine, key=lambda each: str(each["starts_at"]))
        await self.client.call("POST", f"/api/reservations/{last['id']}/cancel", {})

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
        ids = {each["id"] for each in day} & {each["id"] for each in places}
        require(len(ids) == 2, "the therapist sees both sessions")
        self.page.exchange(f"GET {path}", f"{len(day)} sessions are booked with the therapist")
        for place, (mark, status) in zip(
            places, (("attend", "attended"), ("no-show", "no_show")), strict=True
        ):
            path = f"/api/reservations/{place['id']}/{mark}"
            result = await self._once_begun(path)
            require(result["status"] == status, f"the session is marked as {status}")
            self.page.exchange(
                f"POST {path}",
                f"{status}: {result['regular_sessions_left']} regular and"
                f" {result['backup_sessions_left']} backup sessions left",
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
