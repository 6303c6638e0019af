"""The ledger as a property: whatever happens, the counters are the sum of the rows."""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar

import httpx
import pytest
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

from services.vouchers.app import NAME, create_app
from services.vouchers.events import CATALOGUE
from services.vouchers.service.vouchers import cancel_unpaid, expire_run_out
from services.vouchers.tests.environment import settings_of, transports_of
from services.vouchers.tests.events import deliver, payment, refund
from services.vouchers.tests.outside import Identity, Organizations, Payments
from services.vouchers.tests.people import People, buy, new_type, redeem
from shared.db import make_engine, now
from shared.testing import Database, Tokens, client_of
from shared.transactions import Transactions

EDGES = {
    (None, "pending"),
    ("pending", "active"),
    ("pending", "cancelled"),
    ("active", "completed"),
    ("active", "expired"),
    ("active", "cancelled"),
    ("completed", "active"),
}
Result = TypeVar("Result")


class Stage:
    """The service in a loop of its own: the machine's steps are plain functions."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self.database, self.people = database, People(tokens)
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.run(self._open(tokens))

    async def _open(self, tokens: Tokens) -> None:
        settings = settings_of(self.database, tokens)
        transports = transports_of(Payments(), Organizations(), Identity())
        app = create_app(settings, transports=transports)
        self.client = await self.stack.enter_async_context(client_of(app))
        engine = make_engine(settings.database_url)
        self.stack.push_async_callback(engine.dispose)
        self.transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
        self.admin = await self.stack.enter_async_context(self.database.admin())

    def run(self, step: Coroutine[Any, Any, Result]) -> Result:
        """Run one step to its end."""
        return self.runner.run(step)

    def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Return what is really in the database, past every policy."""
        return [dict(row) for row in self.run(self.admin.fetch(query, *arguments))]

    def told(self, subject: str) -> list[dict[str, Any]]:
        """Return the data of the events about something, oldest first."""
        query = (
            "SELECT body::jsonb -> 'data' AS data FROM outbox"
            " WHERE body::jsonb ->> 'subject' = $1 ORDER BY id"
        )
        return [json.loads(row["data"]) for row in self.rows(query, subject)]

    def close(self) -> None:
        """Leave an empty database and no connection behind."""
        self.run(self.stack.aclose())
        self.run(self.database.clear())
        self.runner.close()


@pytest.fixture
def stage(session_database: Database, tokens: Tokens) -> Iterator[Stage]:
    stage = Stage(session_database, tokens)
    yield stage
    stage.close()


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

    def _post(self, path: str) -> httpx.Response:
        target = f"/api/vouchers/{self.number}/{path}"
        return self.stage.run(self.stage.client.post(target, headers=self.stage.people.owner))

    def _voucher(self) -> dict[str, Any]:
        [row] = self.stage.rows("SELECT * FROM vouchers WHERE id = $1", self.number)
        return row

    def _ledger(self) -> list[dict[str, Any]]:
        query = "SELECT * FROM redemptions WHERE voucher_id = $1 ORDER BY id"
        return self.stage.rows(query, self.number)

    @rule()
    def pay(self) -> None:
        self.stage.run(deliver(self.stage.transactions, payment("succeeded", self.number)))

    @rule()
    def fail(self) -> None:
        self.stage.run(deliver(self.stage.transactions, payment("failed", self.number)))

    @rule(amount=st.sampled_from(["10.00", "399.99"]))
    def give_money_back(self, amount: str) -> None:
        self.stage.run(deliver(self.stage.transactions, refund(self.number, amount)))

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
        used, sold = (
            (before["used_sessions"], before["total_sessions"])
            if kind == "regular"
            else (before["used_backup_sessions"], before["backup_sessions"])
        )
        allowed = before["status"] == "active" and used < sold
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

    @rule()
    def cancel(self) -> None:
        before = self._voucher()["status"]
        answer = self._post("cancel")
        assert answer.status_code == (200 if before in ("pending", "active") else 409)

    @rule(days=st.sampled_from([1, 89, 90, 91]))
    def wait(self, days: int) -> None:
        instant = now() + timedelta(days=days)
        self.stage.run(expire_run_out(self.stage.transactions, instant))
        self.stage.run(cancel_unpaid(self.stage.transactions, timedelta(hours=24), instant))

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
    def used_codes_are_the_sessions_spent(self) -> None:
        query = "SELECT is_backup, is_used FROM voucher_codes WHERE voucher_id = $1"
        codes = self.stage.rows(query, self.number)
        voucher = self._voucher()
        for backup, counter in ((False, "used_sessions"), (True, "used_backup_sessions")):
            used = sum(code["is_used"] for code in codes if code["is_backup"] is backup)
            assert used == voucher[counter]
        if codes:
            assert len(codes) == voucher["total_sessions"] + voucher["backup_sessions"]

    @invariant()
    def events_tell_the_way_of_the_states(self) -> None:
        status = None
        for data in self.stage.told(f"voucher/{self.number}"):
            if "status" in data["new_values"]:
                assert data["old_values"].get("status") == status
                assert (status, data["new_values"]["status"]) in EDGES
                status = data["new_values"]["status"]
        assert self._voucher()["status"] == status


def test_the_ledger_holds_whatever_happens(stage: Stage) -> None:
    machine = type("LedgerOnStage", (Ledger,), {"stage": stage})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(max_examples=20, stateful_step_count=15, deadline=None),
    )
