"""The calendar of an organization, as its owner sets it up in the story of bookings."""

from datetime import date, datetime, timedelta
from typing import Any

from deploy.api_client import Person, require
from deploy.demo.page import Page

ONE_DAY = timedelta(days=1)
A_WEEK = timedelta(days=7)


async def resource_of_the_therapist(owner: Person, path: str) -> dict[str, Any]:
    """Return the resource of an organization's only therapist, which follows soon after the user.

    Raises UnexpectedAnswer, TimeoutError.
    """
    [resource] = await owner.get_until(bool, f"{path}/resources")
    therapist: dict[str, Any] = resource
    return therapist


class Calendar:
    """The owner's requests about hours, closures and sessions of one organization."""

    def __init__(self, owner: Person, path: str, page: Page) -> None:
        self.owner, self.path, self.page = owner, path, page
        self.resource: dict[str, Any] = {}

    async def open(self) -> None:
        """Let the therapist work every day."""
        self.resource = await resource_of_the_therapist(self.owner, self.path)
        path = f"{self.path}/resources/{self.resource['id']}/working-hours"
        hours = [
            {"weekday": weekday, "start_time": "08:00", "end_time": "20:00"}
            for weekday in range(1, 8)
        ]
        await self.owner.call("PUT", path, {"hours": hours})
        self.page.exchange(f"PUT {path}", "the therapist works every day from 8 to 20")

    async def close_holidays(self, years: set[int], *, but: date) -> set[date]:
        """Close the public holidays of some years except for one day; return all of them."""
        path, days = f"{self.path}/closures", set[date]()
        for year in sorted(years):
            body = {"country": "PL", "year": year}
            holidays = await self.owner.call("POST", f"{path}/holidays", body)
            require(holidays["created"] > 0, "a year has holidays")
            self.page.exchange(
                f"POST {path}/holidays",
                f"{holidays['created']} public holidays of {year} are closed",
            )
            for closure in holidays["closures"]:
                day = datetime.fromisoformat(closure["starts_local"]).date()
                days.add(day)
                if day == but:
                    await self.owner.call("DELETE", f"{path}/{closure['id']}")
                    self.page.exchange(f"DELETE {path}/{closure['id']}", f"open on {day}")
        return days

    async def close(self, day: date, reason: str) -> list[dict[str, Any]]:
        """Close the therapist on a day; return the reservations that are outside of hours now."""
        body = {
            "resource_id": self.resource["id"],
            "starts_local": f"{day}T00:00:00",
            "ends_local": f"{day + ONE_DAY}T00:00:00",
            "reason": reason,
        }
        closure = await self.owner.call("POST", f"{self.path}/closures", body, expect=201)
        conflicts: list[dict[str, Any]] = closure["conflicts"]
        self.page.exchange(
            f"POST {self.path}/closures", f"{day} is not open, conflicts: {len(conflicts)}"
        )
        return conflicts

    async def session_of_a_class(self, first: date) -> int:
        """Create a room, a class and a series of it from a day on; return its first session."""
        room = await self.owner.call(
            "POST", f"{self.path}/resources", {"kind": "room", "name": "Blue room"}, expect=201
        )
        body = {
            "name": "Consultation",
            "therapist_id": self.resource["user_id"],
            "room_id": room["id"],
        }
        therapy_class = await self.owner.call("POST", f"{self.path}/classes", body, expect=201)
        series = await self.owner.call(
            "POST",
            f"{self.path}/session-series",
            {
                "therapy_class_id": therapy_class["id"],
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
            f"POST {self.path}/session-series",
            ", ".join([f"“{body['name']}” from {first} on, in the blue room", *without]),
        )
        times = {"from": f"{first}T00:00:00Z", "until": f"{first + A_WEEK + ONE_DAY}T00:00:00Z"}
        sessions = await self.owner.call("GET", f"{self.path}/sessions", params=times)
        return int(min(sessions, key=lambda each: str(each["starts_at"]))["id"])
