"""The state machine: forward only, and the same in Python as in the database."""

from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payments.gateways.protocol import PaymentOutcome, PaymentReport
from services.payments.models import UNFINISHED, Status
from services.payments.states import NEXT, ExpectedPayment, after_refund, judge
from shared.testing import Database

AMOUNT = Decimal("399.99")
EXPECTED = ExpectedPayment(AMOUNT, "USD", live=False)


def report(outcome: PaymentOutcome, **changes: Any) -> PaymentReport:
    captured = AMOUNT if outcome is PaymentOutcome.SUCCEEDED else Decimal(0)
    values: dict[str, Any] = {"amount": AMOUNT, "currency": "USD", "captured": captured, **changes}
    return PaymentReport("pi_1", outcome, **values)


reports = st.builds(
    report,
    st.sampled_from(PaymentOutcome),
    amount=st.sampled_from([AMOUNT, Decimal("1.00")]),
    currency=st.sampled_from(["USD", "EUR"]),
    live=st.booleans(),
)


@given(st.lists(reports, max_size=12))
def test_no_sequence_of_reports_goes_backward(sequence: list[PaymentReport]) -> None:
    status = Status.PENDING
    seen = {status}
    for each in sequence:
        verdict = judge(status, EXPECTED, each)
        if verdict is None:
            continue
        assert verdict.status in NEXT[status]
        assert verdict.status not in seen
        status = verdict.status
        seen.add(status)


@given(st.sampled_from(Status), reports)
def test_only_the_right_money_succeeds(status: Status, each: PaymentReport) -> None:
    verdict = judge(status, EXPECTED, each)
    if verdict is not None and verdict.status is Status.SUCCEEDED:
        assert status in UNFINISHED
        assert (each.captured, each.currency, each.live) == (AMOUNT, "USD", False)


@given(st.sampled_from(Status), reports)
def test_a_repetition_changes_nothing(status: Status, each: PaymentReport) -> None:
    verdict = judge(status, EXPECTED, each)
    if verdict is not None:
        assert judge(verdict.status, EXPECTED, each) is None


def test_what_is_given_back() -> None:
    assert after_refund(AMOUNT, Decimal(1)) is Status.PARTIALLY_REFUNDED
    assert after_refund(AMOUNT, AMOUNT) is Status.REFUNDED


_INSERT = (
    "INSERT INTO payment_transactions (organization_id, voucher_id, client_id, amount, currency,"
    " payment_method, payment_gateway, status, captured_amount, refunded_amount, description,"
    " buyer, seller, checked_at, created_at, updated_at, version) VALUES (1, 1, 1, 1, 'USD',"
    " 'cash', 'manual', $1, 0, 0, '', '{}', '{}', now(), now(), now(), 1) RETURNING id"
)


@pytest.mark.anyio
async def test_the_database_refuses_every_other_step(database: Database) -> None:
    async with database.admin() as admin:
        for before in Status:
            for after in Status:
                allowed = await _steps(admin, before, after)
                assert allowed == (after == before or after in NEXT[before]), (before, after)


async def _steps(connection: asyncpg.Connection, before: Status, after: Status) -> bool:
    transaction = connection.transaction()
    await transaction.start()
    try:
        payment_id = await connection.fetchval(_INSERT, before)
        await connection.execute(
            "UPDATE payment_transactions SET status = $1 WHERE id = $2", after, payment_id
        )
    except asyncpg.CheckViolationError:
        return False
    finally:
        await transaction.rollback()
    return True
