"""Reports of payouts that the local card gateway does not make: Stripe's words, and differences."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.payments.gateways import (
    AccountMode,
    BalanceLine,
    Gateways,
    LineKind,
    PayoutReport,
    PayoutStatus,
)
from services.payments.gateways.stripe_payouts import line_of
from services.payments.service import payouts
from services.payments.tests import payout_books
from services.payments.tests.payout_books import PayoutBooks
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

opened, books = payout_books.opened, payout_books.books


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


TRANSACTION: dict[str, Any] = {
    "id": "txn_1",
    "object": "balance_transaction",
    "amount": 9000,
    "created": 1_796_000_000,
    "currency": "eur",
    "exchange_rate": 0.9,
    "fee": 350,
    "fee_details": [
        {"amount": 100, "currency": "eur", "type": "application_fee"},
        {"amount": 230, "currency": "eur", "type": "stripe_fee"},
        {"amount": 20, "currency": "eur", "type": "tax"},
    ],
    "net": 8650,
    "reporting_category": "charge",
    "source": {"id": "ch_1", "object": "charge", "payment_intent": "pi_1"},
    "type": "charge",
}


def test_a_balance_transaction_is_a_line_with_both_fees() -> None:
    line = line_of(TRANSACTION)
    assert (line.kind, line.currency, line.amount) == (LineKind.PAYMENT, "EUR", Decimal(90))
    assert (line.platform_fee, line.gateway_fee) == (Decimal(1), Decimal("2.50"))
    assert line.net == line.amount - line.platform_fee - line.gateway_fee
    assert (line.source_id, line.payment_id) == ("ch_1", "pi_1")


@pytest.mark.parametrize(
    ("kind", "category", "expected"),
    [
        ("payment", "charge", LineKind.PAYMENT),
        ("refund_failure", "refund_failure", LineKind.REFUND_RETURN),
        ("adjustment", "dispute", LineKind.DISPUTE),
        ("adjustment", "dispute_reversal", LineKind.DISPUTE),
        ("adjustment", "other_adjustment", LineKind.OTHER),
        ("payout_cancel", "payout_reversal", LineKind.PAYOUT_RETURN),
        ("stripe_fee", "fee", LineKind.GATEWAY_FEE),
        ("new_type_of_stripe", "other", LineKind.OTHER),
    ],
)
def test_types_of_balance_transactions(kind: str, category: str, expected: LineKind) -> None:
    changes = {"type": kind, "reporting_category": category, "source": None}
    line = line_of(TRANSACTION | changes)
    assert (line.kind, line.source_id, line.payment_id) == (expected, None, None)


def report_of(books: PayoutBooks, *lines: BalanceLine, **changes: Any) -> PayoutReport:
    report = PayoutReport(
        gateway_id="po_1",
        account=books.account,
        status=PayoutStatus.PAID,
        amount=sum((line.net for line in lines), Decimal(0)),
        currency=lines[0].currency,
        is_automatic=True,
        is_listed=True,
        initiated_at=datetime.now(UTC),
        lines=lines,
    )
    return replace(report, **changes)


async def apply(transactions: Transactions, gateways: Gateways, report: PayoutReport) -> bool:
    [gateway] = gateways.all_with_payouts()
    async with transactions.system() as session:
        return await payouts.apply_payout_report(session, gateway, report)


async def test_a_converted_payment_is_known_by_its_id(
    books: PayoutBooks, transactions: Transactions, gateways: Gateways
) -> None:
    payment, intent = await books.pay("100.00")
    line = replace(line_of(TRANSACTION), occurred_at=datetime.now(UTC), payment_id=intent)
    await apply(transactions, gateways, report_of(books, line))
    [payout] = await books.payouts()
    assert (payout["currency"], payout["reconciliation"]) == ("EUR", "matched")
    [shown] = (await books.payout(payout["id"]))["lines"]
    assert (shown["transaction_id"], shown["amount"], shown["currency"]) == (payment, 90, "EUR")


async def test_a_difference_is_a_mismatch_once_the_gateway_has_listed_all(
    books: PayoutBooks, transactions: Transactions, gateways: Gateways, database: Database
) -> None:
    _, intent = await books.pay("100.00")
    line = replace(line_of(TRANSACTION), occurred_at=datetime.now(UTC), payment_id=intent)
    report = report_of(books, line, amount=Decimal("86.51"), is_listed=False)
    await apply(transactions, gateways, report)
    [payout] = await books.payouts()
    assert (payout["reconciliation"], payout["difference"]) == ("pending", None)
    await apply(transactions, gateways, replace(report, is_listed=True))
    [payout] = await books.payouts()
    assert (payout["reconciliation"], payout["difference"]) == ("mismatched", 0.01)
    cent, nothing = Decimal("0.01"), Decimal(0)
    missing = replace(
        line,
        gateway_id="txn_2",
        kind=LineKind.GATEWAY_FEE,
        amount=cent,
        gateway_fee=nothing,
        platform_fee=nothing,
        net=cent,
    )
    await apply(transactions, gateways, replace(report, is_listed=True, lines=(line, missing)))
    [payout] = await books.payouts()
    assert (payout["reconciliation"], payout["difference"]) == ("matched", 0)
    events = [e for e in await database.events() if e["type"] == "payments.payout.reconciled.v1"]
    assert [e["data"]["new_values"]["reconciliation"] for e in events] == ["mismatched", "matched"]


async def test_a_report_of_live_mode_changes_nothing(
    books: PayoutBooks, transactions: Transactions, gateways: Gateways
) -> None:
    report = report_of(books, line_of(TRANSACTION), live=True)
    assert not await apply(transactions, gateways, report)
    assert await books.payouts() == []
