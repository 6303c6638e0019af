"""A practice that takes bookings: therapists, vouchers, and the steps of most tests."""

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from services.vouchers.tests.outside import ORGANIZATION
from services.vouchers.tests.people import Headers, People, buy, new_type, new_voucher
from shared.testing import Database

ZONE = ZoneInfo("Europe/Warsaw")
THERAPIST = 12
SECOND_THERAPIST = 17
HOME = f"/api/organizations/{ORGANIZATION}"
EVERY_DAY = [
    {"weekday": weekday, "start_time": "08:00", "end_time": "20:00"} for weekday in range(1, 8)
]
ALWAYS: dict[str, Any] = {"booking_rules": {}, "frequency": "daily"}
"""The terms of a voucher type whose sessions can be at any time."""


def at(days: int, hour: int = 10, minute: int = 0) -> datetime:
    """Return a time of the organization's clock, a number of days from today."""
    day = datetime.now(ZONE).date() + timedelta(days=days)
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZONE)


def day_of(days: int) -> date:
    """Return the day that is a number of days from today, on the organization's clock."""
    return at(days).date()


async def send(
    client: httpx.AsyncClient, method: str, path: str, headers: Headers, body: Any = None
) -> Any:
    """Send a request that must succeed; return the JSON of the response."""
    answer = await client.request(method, path, json=body, headers=headers)
    assert answer.is_success, (method, path, answer.status_code, answer.text)
    return answer.json()


class Practice:
    """The requests of the tests, sent as the people who usually send them."""

    def __init__(self, client: httpx.AsyncClient, people: People, database: Database) -> None:
        self.client = client
        self.people = people
        self.database = database

    async def add_therapist(
        self, user_id: int = THERAPIST, hours: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Make an employee a therapist with working hours; return the resource."""
        await self.employ(user_id)
        body = {"kind": "therapist", "user_id": user_id}
        resource: dict[str, Any] = await send(
            self.client, "POST", f"{HOME}/resources", self.people.owner, body
        )
        await self.set_hours(resource["id"], EVERY_DAY if hours is None else hours)
        return resource

    async def employ(self, user_id: int) -> None:
        """Store the copy of a therapist who is no resource yet."""
        # The first voucher type fetches the organization.
        await self.type()
        async with self.database.admin() as admin:
            await admin.execute(
                "INSERT INTO client_copies (id, version, name, role, organization_id, is_active)"
                " VALUES ($1, 1, 'Therapist', 'therapist', $2, true)",
                user_id,
                ORGANIZATION,
            )

    async def set_hours(self, resource_id: int, hours: list[dict[str, Any]]) -> dict[str, Any]:
        """Replace the working hours of a resource; return the response."""
        path = f"{HOME}/resources/{resource_id}/working-hours"
        result: dict[str, Any] = await send(
            self.client, "PUT", path, self.people.owner, {"hours": hours}
        )
        return result

    async def voucher(self, **terms: Any) -> dict[str, Any]:
        """Sell our client a voucher whose sessions can be at any time."""
        return await new_voucher(self.client, self.people, **{**ALWAYS, **terms})

    async def voucher_of(self, headers: Headers, voucher_type_id: int) -> dict[str, Any]:
        """Sell a voucher of a type that exists."""
        answer = await buy(self.client, headers, voucher_type_id)
        assert answer.status_code == 201, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def type(self, **terms: Any) -> dict[str, Any]:
        """Create a voucher type whose sessions can be at any time."""
        return await new_type(self.client, self.people.owner, **{**ALWAYS, **terms})

    async def book(
        self, voucher_id: int, headers: Headers | None = None, **choice: Any
    ) -> httpx.Response:
        """Book a session and return the answer; a time is sent with its offset."""
        body = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in choice.items()
        }
        return await self.client.post(
            f"/api/vouchers/{voucher_id}/reservations",
            json=body,
            headers=headers or self.people.client,
        )

    async def booked(
        self, voucher_id: int, headers: Headers | None = None, **choice: Any
    ) -> dict[str, Any]:
        """Book a session that must be bookable; return the reservation."""
        answer = await self.book(voucher_id, headers, **choice)
        assert answer.status_code == 201, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def act(
        self,
        reservation: dict[str, Any],
        action: str,
        headers: Headers | None = None,
        body: Any = None,
    ) -> httpx.Response:
        """Send an action of a reservation, such as cancel, and return the answer."""
        return await self.client.post(
            f"/api/reservations/{reservation['id']}/{action}",
            json=body,
            headers=headers or self.people.client,
        )

    async def session(self, **plan: Any) -> dict[str, Any]:
        """Create a single session; return it."""
        plan = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in plan.items()
        }
        result: dict[str, Any] = await send(
            self.client, "POST", f"{HOME}/sessions", self.people.owner, plan
        )
        return result

    async def begin(self, reservation: dict[str, Any], starts_at: datetime | None = None) -> None:
        """Let the session of a reservation have been an hour long two hours ago, or at a time."""
        async with self.database.admin() as admin:
            await admin.execute(
                "UPDATE sessions SET ends_at = coalesce($2, now() - interval '2 hours')"
                " + interval '1 hour', starts_at = coalesce($2, now() - interval '2 hours')"
                " WHERE id = $1",
                reservation["session_id"],
                starts_at,
            )

    async def require_sums(self) -> None:
        """Require that the stored sums are those of the rows: earmarks, seats and redemptions."""
        earmarks = await self.database.rows(
            "SELECT v.id, v.booked_sessions, (SELECT count(*) FROM reservations r"
            " WHERE r.voucher_id = v.id AND r.status IN ('held', 'booked')) AS rows,"
            " v.used_sessions, (SELECT count(*) FILTER (WHERE reversal_of IS NULL)"
            " - count(*) FILTER (WHERE reversal_of IS NOT NULL) FROM redemptions d"
            " WHERE d.voucher_id = v.id AND d.kind = 'regular') AS ledger FROM vouchers v"
        )
        assert [row for row in earmarks if row["booked_sessions"] != row["rows"]] == []
        assert [row for row in earmarks if row["used_sessions"] != row["ledger"]] == []
        seats = await self.database.rows(
            "SELECT s.id, s.seats_taken, (SELECT count(*) FROM reservations r"
            " WHERE r.session_id = s.id AND r.status IN ('held', 'booked', 'attended', 'no_show'))"
            " AS rows FROM sessions s"
        )
        assert [row for row in seats if row["seats_taken"] != row["rows"]] == []
