"""The ledger as a property: after any steps, the counters are the sum of the rows."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

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
from services.vouchers.service.unpaid_vouchers import PaymentDeadlines, cancel_unpaid
from services.vouchers.tests.events import (
    deliver,
    dispute,
    payment,
    refund,
    refund_failed,
)
from services.vouchers.tests.people import buy, new_type, redeem
from services.vouchers.tests.stage import Stage
from shared.db import now

PATIENCE = PaymentDeadlines(cards=timedelta(hours=24), others=timedelta(days=30))
EDGES = {
    (None, "pending"),
    ("pending", "active"),
    ("pending", "cancelled"),
    ("active", "completed"),
    ("active", "expired"),
    ("active", "cancelled"),
    ("completed", "active"),
    ("expired", "active"),
}


def _left(voucher: dict[str, Any]) -> int:
    used: int = voucher["used_sessions"] + voucher["refunded_sessions"]
    total: int = voucher["total_sessions"]
    return total - used


class Ledger(RuleBasedStateMachine):
    """One voucher, and everything that can happen to it."""

    stage: Stage

    @initialize(total=st.integers(1, 4), backup=st.integers(0, 2))
    def sell(self, total: int, backup: int) -> None:
        stage = self.stage
        kind = stage.run(
            new_type(stage.client, stage.people.owner, total_sessions=total, backup_sessions=backup)
        )
        answer = stage.run(
            buy(stage.client, stage.people.client, kind["id"], payment_token="pm_3ds")
        )
        self.number: int = answer.json()["id"]

    def _post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        target = f"/api/vouchers/{self.number}/{path}"
        owner = self.stage.people.owner
        return self.stage.run(self.stage.client.post(target, json=body, headers=owner))

    def _voucher(self) -> dict[str, Any]:
        [row] = self.stage.rows("SELECT * FROM vouchers WHERE id = $1", self.number)
        return row

    def _ledger(self) -> list[dict[str, Any]]:
        query = "SELECT * FROM redemptions WHERE voucher_id = $1 ORDER BY id"
        return self.stage.rows(query, self.number)

    def _adjustments(self) -> list[dict[str, Any]]:
        query = "SELECT * FROM adjustments WHERE voucher_id = $1 ORDER BY id"
        return self.stage.rows(query, self.number)

    @rule()
    def pay(self) -> None:
        self.stage.run(deliver(self.stage.transactions, payment("succeeded", self.number)))

    @rule()
    def fail(self) -> None:
        self.stage.run(deliver(self.stage.transactions, payment("failed", self.number)))

    @rule(amount=st.sampled_from(["10.00", "150.00", "399.99"]))
    def give_money_back(self, amount: str) -> None:
        """By staff or at the gateway's console: of what is left."""
        returned = self.stage.payments.returned
        before = returned.get(self.number, Decimal(0))
        part = min(Decimal(amount), Decimal("399.99") - before)
        if part:
            returned[self.number] = before + part
            report = refund(self.number, str(before + part), amount=str(part))
            self.stage.run(deliver(self.stage.transactions, report))

    @rule(
        sessions=st.sampled_from([None, 1, 2]),
        status=st.sampled_from(["succeeded", "pending", "failed"]),
        spend_between=st.booleans(),
    )
    def give_back_by_quote(self, sessions: int | None, status: str, spend_between: bool) -> None:
        before = self._voucher()
        quoted = self._post("refund-quote", {"sessions": sessions})
        if quoted.status_code != 201:
            assert quoted.status_code in (409, 422), quoted.text
            return
        assert quoted.json()["unused_sessions"] == _left(before)
        if spend_between:
            self.spend("regular")
        outdated = self._voucher()["version"] != before["version"]
        self.stage.payments.refund_status = status
        answer = self._post("refunds", {"quote_id": quoted.json()["id"], "reason": "Moves away"})
        refused = outdated or status == "failed"
        assert answer.status_code == (409 if refused else 201), answer.text

    @rule(success=st.booleans())
    def the_gateway_decides(self, success: bool) -> None:
        """What was pending there is made, or is not."""
        for quote in self._quotes("taken"):
            returned = self.stage.payments.returned[self.number]
            report = (
                refund(
                    self.number, str(returned), amount=str(quote["amount"]), quote_id=quote["id"]
                )
                if success
                else refund_failed(self.number, quote["id"])
            )
            if not success:
                self.stage.payments.returned[self.number] = returned - quote["amount"]
            self.stage.run(deliver(self.stage.transactions, report))

    def _quotes(self, *statuses: str) -> list[dict[str, Any]]:
        query = "SELECT * FROM refund_quotes WHERE voucher_id = $1 AND status = ANY($2)"
        return self.stage.rows(query, self.number, list(statuses))

    @rule(number=st.integers(1, 3), status=st.sampled_from(["open", "won", "lost"]))
    def the_bank_disputes(self, number: int, status: str) -> None:
        what = "opened" if status == "open" else "closed"
        self.stage.run(deliver(self.stage.transactions, dispute(what, self.number, number, status)))

    @rule(kind=st.sampled_from(["regular", "backup"]))
    def spend(self, kind: str) -> None:
        before = self._voucher()
        answer = self.stage.run(
            redeem(
                self.stage.client,
                self.stage.people.therapist,
                self.number,
                kind=kind,
                reason="missed",
            )
        )
        spare = before["backup_sessions"] - before["used_backup_sessions"]
        left = _left(before) if kind == "regular" else min(spare, _left(before))
        undisputed = before["disputed_at"] is None
        allowed = before["status"] == "active" and undisputed and left > 0
        assert answer.status_code == (201 if allowed else 409), answer.text

    @precondition(lambda self: self._ledger())
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        ledger = self._ledger()
        row = data.draw(st.sampled_from(ledger))
        reversed_ = {other["reversal_of"] for other in ledger}
        answer = self._post(f"redemptions/{row['id']}/reverse")
        allowed = row["reversal_of"] is None and row["id"] not in reversed_
        assert answer.status_code == (201 if allowed else 409)

    @rule(days=st.integers(1, 40))
    def extend(self, days: int) -> None:
        before = self._voucher()
        last = before["valid_until"] or now().date()
        later = (last + timedelta(days=days)).isoformat()
        answer = self._post("extensions", {"valid_until": later, "reason": "Courtesy"})
        revivable = (
            before["status"] == "expired"
            and _left(before) > 0
            and before["payment_status"] != "refunded"
            and not self._lost_disputes()
        )
        allowed = before["status"] == "active" or revivable
        assert answer.status_code == (201 if allowed else 409), answer.text
        assert self._voucher()["status"] == ("active" if allowed else before["status"])

    def _lost_disputes(self) -> list[dict[str, Any]]:
        query = "SELECT id FROM voucher_disputes WHERE voucher_id = $1 AND is_lost"
        return self.stage.rows(query, self.number)

    @precondition(lambda self: self._adjustments())
    @rule(data=st.data())
    def take_an_extension_back(self, data: st.DataObject) -> None:
        made = data.draw(st.sampled_from(self._adjustments()))
        adjustable = self._voucher()["status"] in ("active", "expired")
        allowed = adjustable and made["reversed_at"] is None
        answer = self._post(f"adjustments/{made['id']}/reverse", {"reason": "A mistake"})
        assert answer.status_code == (200 if allowed else 409)

    @rule()
    def cancel(self) -> None:
        before = self._voucher()["status"]
        answer = self._post("cancel")
        assert answer.status_code == (200 if before in ("pending", "active") else 409)

    @rule(days=st.sampled_from([1, 89, 90, 91]))
    def wait(self, days: int) -> None:
        instant = now() + timedelta(days=days)
        self.stage.run(expire_vouchers(self.stage.transactions, instant))
        self.stage.run(
            cancel_unpaid(self.stage.transactions, self.stage.payments.close, PATIENCE, instant)
        )

    @invariant()
    def counters_are_the_sum_of_the_rows(self) -> None:
        voucher = self._voucher()
        balance = {"regular": 0, "backup": 0}
        for row in self._ledger():
            balance[row["kind"]] += -1 if row["reversal_of"] else 1
        assert voucher["used_sessions"] == balance["regular"]
        assert voucher["used_backup_sessions"] == balance["backup"]
        assert 0 <= balance["regular"] <= voucher["total_sessions"]
        assert 0 <= balance["backup"] <= voucher["backup_sessions"]

    @invariant()
    def the_last_day_is_what_was_sold_and_what_was_added(self) -> None:
        voucher = self._voucher()
        if voucher["valid_until"] is None:
            assert not self._adjustments()
            return
        added = sum(made["days"] for made in self._adjustments() if made["reversed_at"] is None)
        length = timedelta(days=voucher["validity_days"] + added - 1)
        assert voucher["valid_until"] == voucher["valid_from"] + length

    @invariant()
    def used_codes_are_the_sessions_spent(self) -> None:
        query = "SELECT is_backup, is_used, is_refunded FROM voucher_codes WHERE voucher_id = $1"
        codes = self.stage.rows(query, self.number)
        voucher = self._voucher()
        for backup, counter in ((False, "used_sessions"), (True, "used_backup_sessions")):
            used = sum(code["is_used"] for code in codes if code["is_backup"] is backup)
            assert used == voucher[counter]
        if codes:
            assert len(codes) == voucher["total_sessions"] + voucher["backup_sessions"]
            refunded = [code for code in codes if code["is_refunded"]]
            assert len(refunded) == voucher["refunded_sessions"]
            assert not any(code["is_backup"] or code["is_used"] for code in refunded)

    @invariant()
    def no_session_is_both_spent_and_given_back(self) -> None:
        voucher = self._voucher()
        assert _left(voucher) >= 0
        quoted = sum(quote["sessions"] for quote in self._quotes("taken", "refunded"))
        assert quoted <= voucher["refunded_sessions"]

    @invariant()
    def nothing_goes_on_without_its_money(self) -> None:
        voucher = self._voucher()
        if voucher["payment_status"] == "refunded":
            assert voucher["status"] not in ("pending", "active")
        if voucher["status"] == "active" and _left(voucher) == 0:
            assert self._quotes("taken"), "only what waits for its money is neither used nor ended"

    @invariant()
    def events_tell_the_way_of_the_states(self) -> None:
        status = None
        for data in self.stage.events_of(f"voucher/{self.number}"):
            if "status" in data["new_values"]:
                assert data["old_values"].get("status") == status
                assert (status, data["new_values"]["status"]) in EDGES
                status = data["new_values"]["status"]
        assert self._voucher()["status"] == status


def test_the_ledger_holds_whatever_happens(stage: Stage) -> None:
    machine = type("LedgerOnStage", (Ledger,), {"stage": stage})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(max_examples=20, stateful_step_count=15),
    )
