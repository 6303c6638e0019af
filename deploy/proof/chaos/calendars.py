"""The calendar of an organization of the run: its hours, and what is booked in it."""

from dataclasses import dataclass, field
from typing import Any

from deploy.api_client import Person
from deploy.demo.calendar import resource_of_the_therapist
from deploy.demo.story import PACKAGE

_POLICY = {
    "opens_days": 60,
    "closes_minutes": 0,
    # Half of the cancellations are late.
    "notice_minutes": 3 * 1440,
    # A hold that nobody confirms lapses within the run.
    "hold_minutes": 1,
}
_BOOKED: dict[str, Any] = {
    **PACKAGE,
    "total_sessions": 30,
    "session_duration_minutes": 60,
    "frequency": "daily",
    "booking_rules": {},
    "booking_policy": _POLICY,
}
_ALL_DAY = [
    {"weekday": weekday, "start_time": "00:00", "end_time": "24:00"} for weekday in range(1, 8)
]


@dataclass
class ChaosCalendar:
    """The therapist and the voucher types that are booked, and what was booked with them."""

    therapist_id: int
    single_type: int
    """The voucher type for sessions of one client, on demand."""
    group_type: int
    """The voucher type for sessions of two clients, which the owner creates."""
    vouchers: list[dict[str, Any]] = field(default_factory=list)
    """Vouchers for single sessions."""
    group_vouchers: list[dict[str, Any]] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """Sessions of two clients."""
    reservations: list[dict[str, Any]] = field(default_factory=list)


async def open_calendar(owner: Person, path: str) -> ChaosCalendar:
    """Let the organization's therapist work day and night.

    Raises UnexpectedAnswer, TimeoutError.
    """
    resource = await resource_of_the_therapist(owner, path)
    hours = f"{path}/resources/{resource['id']}/working-hours"
    await owner.call("PUT", hours, {"hours": _ALL_DAY})
    types = [
        await owner.call("POST", f"{path}/voucher-types", {**_BOOKED, **size}, expect=201)
        for size in (
            {"name": "Single sessions", "max_clients_per_session": 1},
            {"name": "Sessions of two", "max_clients_per_session": 2},
        )
    ]
    return ChaosCalendar(resource["user_id"], types[0]["id"], types[1]["id"])
