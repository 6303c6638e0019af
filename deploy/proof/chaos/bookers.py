"""The users of the run who book: they hold, move, cancel and wait; therapists mark who came."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.api_client import Person
from deploy.proof.chaos.client import ClientAnswer, Traffic
from deploy.proof.chaos.organizations import ChaosOrganization

GOOD_CARD = "pm_card_visa"
DAYS_AHEAD = 6
"""Few days, so that bookings meet each other."""
BEGINS_WITHIN = 70.0
"""In how many seconds a session of the next minute has begun for certain."""

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
Action = Callable[[ChaosOrganization, random.Random], Awaitable[None]]


class Bookers:
    """Actions with bookings, each with its weight."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self.actions: dict[Action, int] = {
            self.buy_sessions: 2,
            self.book: 8,
            self.hold: 3,
            self.book_series: 1,
            self.move: 3,
            self.cancel: 4,
            self.create_session: 2,
            self.join_session: 6,
            self.cancel_session: 1,
            self.attend: 1,
        }

    async def buy_sessions(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Buy a voucher for single sessions or for sessions of two."""
        calendar = organization.calendar
        is_single = dice.random() < 0.5
        body = {
            "voucher_type_id": calendar.single_type if is_single else calendar.group_type,
            "payment_method": "credit_card",
            "payment_token": GOOD_CARD,
        }
        client = dice.choice(organization.clients)
        answer = await self._traffic.post(client, "purchase", "/api/vouchers/purchase", body)
        if answer.succeeded and answer.body["status"] == "active":
            vouchers = calendar.vouchers if is_single else calendar.group_vouchers
            vouchers.append({**answer.body, "client": client})
            organization.vouchers.append(answer.body)

    async def book(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Book a free or a taken hour of the next days."""
        if voucher := _choice(dice, organization.calendar.vouchers):
            await self._reserve(organization, voucher, self._hour(organization, dice))

    async def hold(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Hold an hour; confirm it, or let the hold lapse."""
        voucher = _choice(dice, organization.calendar.vouchers)
        if voucher is None:
            return
        wish = {**self._hour(organization, dice), "hold": True}
        answer = await self._reserve(organization, voucher, wish)
        if answer.succeeded and dice.random() < 0.7:
            path = f"/api/reservations/{answer.body['id']}/confirm"
            await self._traffic.post(voucher["client"], "confirmation", path, {})

    async def book_series(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Book one hour of three days of the week in one transaction."""
        voucher = _choice(dice, organization.calendar.vouchers)
        if voucher is None:
            return
        first = datetime.now(UTC) + _DAY * dice.randint(1, DAYS_AHEAD)
        body = {
            "first_date": str(first.date()),
            "weekdays": sorted(dice.sample(range(1, 8), 3)),
            "start_time": f"{dice.randrange(24):02}:00",
            "therapist_id": organization.calendar.therapist_id,
            "count": 3,
        }
        path = f"/api/vouchers/{voucher['id']}/reservations/series"
        answer = await self._traffic.post(voucher["client"], "series", path, body)
        if answer.succeeded:
            for each in answer.body["dates"]:
                if each["reservation_id"] is not None:
                    reservation = {"id": each["reservation_id"], "client": voucher["client"]}
                    organization.calendar.reservations.append(reservation)

    async def move(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Move a reservation to another hour."""
        if reservation := _choice(dice, organization.calendar.reservations):
            path = f"/api/reservations/{reservation['id']}/reschedule"
            hour = self._hour(organization, dice)
            await self._traffic.post(reservation["client"], "move", path, hour)

    async def cancel(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Cancel a reservation, in time or late."""
        if reservation := _choice(dice, organization.calendar.reservations):
            path = f"/api/reservations/{reservation['id']}/cancel"
            body = {"accept_charge": True}
            await self._traffic.post(reservation["client"], "release", path, body)

    async def create_session(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Create a session of two clients, which does not take the therapist's time."""
        body = {
            "starts_at": self._hour(organization, dice)["starts_at"],
            "duration_minutes": 60,
            "capacity": 2,
            "allow_overlap": True,
        }
        path = f"{organization.path}/sessions"
        answer = await self._traffic.post(organization.owner, "session", path, body)
        if answer.succeeded:
            organization.calendar.sessions.append(answer.body)

    async def join_session(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Book a place in a session, or wait for one."""
        calendar = organization.calendar
        session, voucher = _choice(dice, calendar.sessions), _choice(dice, calendar.group_vouchers)
        if session is None or voucher is None:
            return
        wish: dict[str, Any] = {"session_id": session["id"]}
        answer = await self._reserve(organization, voucher, wish)
        if answer.status == 409 and answer.body["code"] == "session_full":
            await self._reserve(organization, voucher, {**wish, "waitlist": True})

    async def cancel_session(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Cancel a session with everybody who booked it."""
        if session := _choice(dice, organization.calendar.sessions):
            organization.calendar.sessions.remove(session)
            path = f"/api/sessions/{session['id']}/cancel"
            await self._traffic.post(organization.owner, "session cancelled", path, {})

    async def attend(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """A client comes, or does not, to a session that begins with the next minute."""
        voucher = _choice(dice, organization.calendar.vouchers)
        if voucher is None:
            return
        begins = (datetime.now(UTC) + timedelta(seconds=65)).replace(second=0, microsecond=0)
        body = {
            "starts_at": begins.isoformat(),
            "duration_minutes": 5,
            "therapist_id": organization.calendar.therapist_id,
            "allow_overlap": True,
        }
        path = f"{organization.path}/sessions"
        session = await self._traffic.post(organization.owner, "session", path, body)
        if not session.succeeded:
            return
        wish = {"session_id": session.body["id"]}
        answer = await self._reserve(organization, voucher, wish)
        if answer.succeeded:
            path = f"/api/reservations/{answer.body['id']}"
            await asyncio.sleep(max(0.0, (begins - datetime.now(UTC)).total_seconds()) + 1)
            mark = "attend" if dice.random() < 0.5 else "no-show"
            await self._traffic.post(organization.therapist, "mark", f"{path}/{mark}", {})

    async def _reserve(
        self, organization: ChaosOrganization, voucher: dict[str, Any], wish: dict[str, Any]
    ) -> ClientAnswer:
        client: Person = voucher["client"]
        path = f"/api/vouchers/{voucher['id']}/reservations"
        answer = await self._traffic.post(client, "reservation", path, wish)
        if answer.succeeded:
            reservation = {"id": answer.body["id"], "client": client}
            organization.calendar.reservations.append(reservation)
        return answer

    def _hour(self, organization: ChaosOrganization, dice: random.Random) -> dict[str, Any]:
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        starts_at = hour + _HOUR * dice.randint(1, 24 * DAYS_AHEAD)
        therapist_id = organization.calendar.therapist_id
        return {"starts_at": starts_at.isoformat(), "therapist_id": therapist_id}


def _choice(dice: random.Random, items: list[dict[str, Any]]) -> dict[str, Any] | None:
    return dice.choice(items) if items else None
