"""Bookings as a property: after any steps, the sums are those of the rows."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import httpx
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.vouchers.service.expiry import expire_vouchers
from services.vouchers.service.holds import lapse_holds
from services.vouchers.service.unmarked_sessions import settle_unmarked
from services.vouchers.service.waitlist import give_free_seats
from services.vouchers.tests.events import deliver, dispute
from services.vouchers.tests.outside import CLIENT, SECOND_CLIENT
from services.vouchers.tests.people import Headers, redeem
from services.vouchers.tests.practice import HOME, THERAPIST, Practice, at, day_of
from services.vouchers.tests.stage import Stage
from shared.db import now

# Whether a cancellation is late depends on the day that is drawn.
POLICY = {"notice_minutes": 2 * 1440, "closes_minutes": 0}
DAYS, HOURS = st.integers(1, 4), st.sampled_from([9, 10, 11])
PARTIES = st.sampled_from([0, 1])
OVERLAPS = (
    "SELECT a.session_id FROM occupations a JOIN occupations b ON a.resource_id = b.resource_id"
    " AND a.session_id < b.session_id AND a.blocked && b.blocked AND a.enforced AND b.enforced"
)
IN_CANCELLED_SESSIONS = (
    "SELECT r.id FROM reservations r JOIN sessions s ON s.id = r.session_id"
    " WHERE r.status IN ('held', 'booked') AND s.status = 'cancelled'"
)
OF_CANCELLED_VOUCHERS = (
    "SELECT r.id FROM reservations r JOIN vouchers v ON v.id = r.voucher_id"
    " WHERE r.status IN ('held', 'booked') AND r.starts_at > now() AND v.status = 'cancelled'"
)
PERIODS_TAKEN_TWICE = (
    "SELECT voucher_id, period FROM reservations WHERE status IN ('held', 'booked', 'attended')"
    " AND period IS NOT NULL GROUP BY voucher_id, period HAVING count(*) > 1"
)
DOUBLE_BOOKED = (
    "SELECT a.id FROM reservations a JOIN reservations b ON a.client_id = b.client_id"
    " AND a.id < b.id AND a.starts_at < b.ends_at AND b.starts_at < a.ends_at"
    " WHERE a.status IN ('held', 'booked') AND b.status IN ('held', 'booked')"
    " AND NOT a.may_overlap AND NOT b.may_overlap"
)


class Bookings(RuleBasedStateMachine):
    """Two clients with a voucher each, a therapist, and everything that they can do."""

    stage: Stage

    @initialize(total=st.integers(1, 4), backup=st.integers(0, 2))
    def open(self, total: int, backup: int) -> None:
        stage = self.stage
        stage.run(stage.database.clear())
        self.practice = Practice(stage.client, stage.people, stage.database)
        stage.run(self.practice.add_therapist())
        kind = stage.run(
            self.practice.type(total_sessions=total, backup_sessions=backup, booking_policy=POLICY)
        )
        self.clients: list[Headers] = [stage.people.client, stage.people.second_client]
        self.vouchers: list[int] = [
            stage.run(self.practice.voucher_of(headers, kind["id"]))["id"]
            for headers in self.clients
        ]
        self.reservations: list[dict[str, Any]] = []
        self.session_ids: list[int] = [
            stage.run(self.practice.session(starts_at=at(day, 15), duration_minutes=60))["id"]
            for day in (2, 5)
        ]

    def _send(
        self, method: str, path: str, headers: Headers, body: dict[str, Any] | None = None
    ) -> httpx.Response:
        """Send a request, which may be refused, but for a reason that is documented."""
        answer = self.stage.run(self.stage.client.request(method, path, json=body, headers=headers))
        assert answer.is_success or answer.status_code in (404, 409, 422), answer.text
        return answer

    def _book(self, party: int, body: dict[str, Any]) -> None:
        path = f"/api/vouchers/{self.vouchers[party]}/reservations"
        answer = self._send("POST", path, self.clients[party], body)
        if answer.is_success:
            self.reservations.append({**answer.json(), "party": party})

    def _act(self, data: st.DataObject, action: str, body: dict[str, Any] | None = None) -> None:
        reservation = data.draw(st.sampled_from(self.reservations))
        headers = self.clients[reservation["party"]]
        self._send("POST", f"/api/reservations/{reservation['id']}/{action}", headers, body)

    @rule(party=PARTIES, day=DAYS, hour=HOURS, hold=st.booleans())
    def book(self, party: int, day: int, hour: int, hold: bool) -> None:
        starts_at = at(day, hour).isoformat()
        self._book(party, {"starts_at": starts_at, "therapist_id": THERAPIST, "hold": hold})

    @rule(party=PARTIES, number=st.sampled_from([0, 1]), waits=st.booleans())
    def join(self, party: int, number: int, waits: bool) -> None:
        self._book(party, {"session_id": self.session_ids[number], "waitlist": waits})

    @rule(party=PARTIES, day=DAYS, conflict=st.sampled_from(["skip", "append", "fail"]))
    def book_series(self, party: int, day: int, conflict: str) -> None:
        body = {
            "first_date": str(day_of(day)),
            "weekdays": sorted({day_of(day + number).isoweekday() for number in range(3)}),
            "start_time": "10:00",
            "therapist_id": THERAPIST,
            "count": 3,
            "on_conflict": conflict,
        }
        path = f"/api/vouchers/{self.vouchers[party]}/reservations/series"
        answer = self._send("POST", path, self.clients[party], body)
        if answer.is_success:
            self.reservations += [
                {"id": each["reservation_id"], "session_id": each["session_id"], "party": party}
                for each in answer.json()["dates"]
                if each["reservation_id"] is not None
            ]

    @precondition(lambda self: self.reservations)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        self._act(data, "confirm")

    @precondition(lambda self: self.reservations)
    @rule(data=st.data(), accept=st.booleans())
    def cancel(self, data: st.DataObject, accept: bool) -> None:
        self._act(data, "cancel", {"accept_charge": accept})

    @precondition(lambda self: self.reservations)
    @rule(data=st.data(), day=DAYS, hour=HOURS)
    def move(self, data: st.DataObject, day: int, hour: int) -> None:
        starts_at = at(day, hour).isoformat()
        self._act(data, "reschedule", {"starts_at": starts_at, "therapist_id": THERAPIST})

    @precondition(lambda self: self.reservations)
    @rule(data=st.data(), mark=st.sampled_from(["attend", "no-show", None]))
    def begin(self, data: st.DataObject, mark: str | None) -> None:
        """Let the session of a reservation be over, and mark who was there."""
        reservation = data.draw(st.sampled_from(self.reservations))
        try:
            self.stage.run(self.practice.begin(reservation))
        except asyncpg.ExclusionViolationError:
            return  # the client has another session at that time
        if mark is not None:
            path = f"/api/reservations/{reservation['id']}/{mark}"
            self._send("POST", path, self.stage.people.owner)

    @rule(party=PARTIES, reason=st.sampled_from([None, "missed", "late_cancelled"]))
    def spend(self, party: int, reason: str | None) -> None:
        order = {} if reason is None else {"reason": reason}
        voucher_id, therapist = self.vouchers[party], self.stage.people.therapist
        answer = self.stage.run(redeem(self.stage.client, therapist, voucher_id, **order))
        assert answer.status_code in (201, 409, 422), answer.text

    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        """Reverse a redemption, which opens its reservation again where that is possible."""
        rows = self.stage.rows("SELECT id, voucher_id FROM redemptions ORDER BY id")
        if rows:
            row = data.draw(st.sampled_from(rows))
            path = f"/api/vouchers/{row['voucher_id']}/redemptions/{row['id']}/reverse"
            self._send("POST", path, self.stage.people.owner, {})

    @rule(party=PARTIES, day=DAYS, days=st.integers(1, 3))
    def freeze(self, party: int, day: int, days: int) -> None:
        body = {
            "starts_on": str(day_of(day)),
            "ends_on": str(day_of(day + days - 1)),
            "reason": "Holiday",
        }
        path = f"/api/vouchers/{self.vouchers[party]}/freezes"
        self._send("POST", path, self.stage.people.owner, body)

    @rule(party=PARTIES, sessions=st.sampled_from([None, 1, 2]))
    def give_back(self, party: int, sessions: int | None) -> None:
        """Refund sessions by a quote, with the reservations that they release."""
        path, owner = f"/api/vouchers/{self.vouchers[party]}", self.stage.people.owner
        quote = self._send("POST", f"{path}/refund-quote", owner, {"sessions": sessions})
        if quote.is_success:
            self._send("POST", f"{path}/refunds", owner, {"quote_id": quote.json()["id"]})

    @rule(party=PARTIES, sessions=st.sampled_from([None, 1]))
    def transfer(self, party: int, sessions: int | None) -> None:
        body = {
            "client_id": (CLIENT, SECOND_CLIENT)[1 - party],
            "sessions": sessions,
            "reason": "A gift",
        }
        path = f"/api/vouchers/{self.vouchers[party]}/transfers"
        self._send("POST", path, self.stage.people.owner, body)

    @rule(party=PARTIES)
    def cancel_voucher(self, party: int) -> None:
        path = f"/api/vouchers/{self.vouchers[party]}/cancel"
        self._send("POST", path, self.stage.people.owner)

    @rule(party=PARTIES, status=st.sampled_from(["open", "won", "lost"]))
    def dispute(self, party: int, status: str) -> None:
        what = "opened" if status == "open" else "closed"
        event = dispute(what, self.vouchers[party], 1 + party, status)
        self.stage.run(deliver(self.stage.transactions, event))

    @rule(number=st.sampled_from([0, 1]))
    def cancel_session(self, number: int) -> None:
        path = f"/api/sessions/{self.session_ids[number]}/cancel"
        self._send("POST", path, self.stage.people.owner, {})

    @rule(day=DAYS)
    def close(self, day: int) -> None:
        """Close everybody on a day: who booked it keeps it until somebody decides."""
        body = {"starts_local": f"{day_of(day)}T00:00:00", "ends_local": f"{day_of(day)}T23:00:00"}
        self._send("POST", f"{HOME}/closures", self.stage.people.owner, body)

    @rule(hours=st.sampled_from([0, 1, 60]))
    def wait(self, hours: int) -> None:
        """Let the timers of the worker run, now or some hours later."""
        instant: datetime = now() + timedelta(hours=hours)
        transactions = self.stage.transactions
        self.stage.run(lapse_holds(transactions, instant))
        self.stage.run(settle_unmarked(transactions, instant))
        self.stage.run(give_free_seats(transactions))

    @rule(days=st.sampled_from([1, 100]))
    def expire(self, days: int) -> None:
        self.stage.run(expire_vouchers(self.stage.transactions, now() + timedelta(days=days)))

    @invariant()
    def the_sums_are_those_of_the_rows(self) -> None:
        self.stage.run(self.practice.require_sums())
        over = self.stage.rows(
            "SELECT id FROM vouchers WHERE used_sessions + refunded_sessions + booked_sessions"
            " + transferred_sessions > total_sessions"
        )
        assert over == []

    @invariant()
    def nobody_is_in_two_places(self) -> None:
        for query in (OVERLAPS, DOUBLE_BOOKED, PERIODS_TAKEN_TWICE):
            assert self.stage.rows(query) == []

    @invariant()
    def nobody_has_a_place_in_vain(self) -> None:
        for query in (IN_CANCELLED_SESSIONS, OF_CANCELLED_VOUCHERS):
            assert self.stage.rows(query) == []


def test_bookings_hold_whatever_happens(stage: Stage) -> None:
    machine = type("BookingsOnStage", (Bookings,), {"stage": stage})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(max_examples=25, stateful_step_count=20),
    )
