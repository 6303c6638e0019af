"""Payouts of connected accounts: stored, compared with our books to the cent, and seen."""

import csv
import io
from decimal import Decimal
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.payments.gateways import AccountMode, Gateways
from services.payments.service.payout_reader import PayoutReader
from services.payments.telemetry import PAYOUTS_MISMATCHED
from services.payments.tests import payout_books
from services.payments.tests.network import UnreliableNetwork
from services.payments.tests.payout_books import Open, PayoutBooks, this_month
from services.payments.tests.signals import (
    ORGANIZATION,
    CardIssuer,
    deliver_connect,
    event,
)
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
opened, books = payout_books.opened, payout_books.books


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


def about_payouts(event: dict[str, Any]) -> bool:
    return str(event["type"]).startswith("payout.")


async def types_of_payouts(database: Database) -> list[str]:
    prefix = "payments.payout."
    return [
        e["type"].removeprefix(prefix)
        for e in await database.events()
        if e["type"].startswith(prefix)
    ]


async def test_a_payout_is_the_sum_of_lines_that_our_books_have(
    books: PayoutBooks, database: Database
) -> None:
    await books.set_fee(percent=2.5)
    first, _ = await books.pay("399.99")
    second, intent = await books.pay("200.00")
    assert (await books.refund(first, amount="100.00")).status_code == 201
    dispute = await books.issuer.dispute(intent)
    await books.deliver()
    sent = await books.issuer.pay_out()
    await books.deliver()
    [payout] = await books.payouts()
    assert (payout["gateway_payout_id"], payout["status"]) == (sent["id"], "paid")
    assert Decimal(str(payout["amount"])) == Decimal(sent["amount"]) / 100
    assert (payout["reconciliation"], payout["difference"], payout["unknown_lines"]) == (
        "matched",
        0,
        0,
    )
    lines = (await books.payout(payout["id"]))["lines"]
    assert [(line["kind"], line["transaction_id"], line["is_known"]) for line in lines] == [
        ("payment", first, True),
        ("payment", second, True),
        ("refund", first, True),
        ("dispute", second, True),
    ]
    assert lines[0] | {"amount": 399.99, "gateway_fee": 11.9, "platform_fee": 10.0} == lines[0]
    assert lines[0]["net"] == 378.09
    assert lines[2]["platform_fee"] == -2.5
    assert (lines[3]["gateway_source_id"], lines[3]["amount"]) == (dispute["id"], -200)
    assert None not in (lines[2]["refund_id"], lines[3]["dispute_id"])
    assert sum(Decimal(str(line["net"])) for line in lines) == Decimal(str(payout["amount"]))
    assert await types_of_payouts(database) == ["created.v1", "paid.v1", "reconciled.v1"]


async def test_a_payout_before_the_webhooks_of_what_it_consists_of(books: PayoutBooks) -> None:
    payment, intent = await books.pay("100.00")
    await books.issuer.refund(intent, 2000)  # at the gateway's console
    await books.issuer.pay_out()
    await books.deliver(about_payouts)
    [payout] = await books.payouts()
    assert (payout["reconciliation"], payout["unknown_lines"]) == ("mismatched", 1)
    assert payout["difference"] == 0
    lines = (await books.payout(payout["id"]))["lines"]
    assert [(line["kind"], line["is_known"]) for line in lines] == [
        ("payment", True),
        ("refund", False),
    ]
    await books.deliver()
    await books.read()
    [payout] = await books.payouts()
    assert (payout["reconciliation"], payout["unknown_lines"]) == ("matched", 0)
    lines = (await books.payout(payout["id"]))["lines"]
    assert {line["transaction_id"] for line in lines} == {payment}


async def test_what_is_not_ours_is_listed_as_unknown_and_counted(
    books: PayoutBooks, issuer: CardIssuer, database: Database
) -> None:
    await books.pay("100.00")
    own = books.issuer
    fields = {"amount": 5000, "currency": "usd", "payment_method": "pm_card_visa"}
    await own._post("/v1/payment_intents", fields | {"confirm": "true"})  # in the owner's shop
    await own.pay_out()
    await books.deliver()
    await books.read()
    [payout] = await books.payouts(reconciliation="mismatched")
    assert (payout["unknown_lines"], payout["difference"]) == (1, 0)
    assert PAYOUTS_MISMATCHED._value.get() == 1
    [line] = [each for each in (await books.payout(payout["id"]))["lines"] if not each["is_known"]]
    assert (line["kind"], line["amount"], line["transaction_id"]) == ("payment", 50, None)
    [row] = await books.statement()
    assert (row["payments"], row["other"], row["unknown_lines"]) == (100, 50, 1)
    assert row["gateway_fees"] == -(3.2 + 1.75)


async def test_a_payment_with_another_amount_than_in_our_books_is_unknown(
    books: PayoutBooks, database: Database
) -> None:
    payment, _ = await books.pay("100.00")
    await database.rows(
        "UPDATE payment_transactions SET captured_amount = 99 WHERE id = $1 RETURNING id", payment
    )
    await books.issuer.pay_out()
    await books.deliver(about_payouts)
    [payout] = await books.payouts()
    assert (payout["reconciliation"], payout["unknown_lines"]) == ("mismatched", 1)
    [line] = (await books.payout(payout["id"]))["lines"]
    assert (line["transaction_id"], line["is_known"]) == (payment, False)


async def test_a_failed_payout_is_paid_with_the_next(
    books: PayoutBooks, database: Database
) -> None:
    await books.pay("100.00")
    failed = await books.issuer.pay_out("in_transit")
    await books.deliver()
    [payout] = await books.payouts()
    assert payout["status"] == "in_transit"
    await books.issuer.settle_payout(failed["id"], "failed")
    await books.deliver()
    await books.pay("50.00")
    await books.issuer.pay_out()
    await books.deliver()
    paid, again = await books.payouts()
    assert (again["status"], again["failure_code"]) == ("failed", "account_closed")
    assert (paid["status"], paid["reconciliation"], paid["difference"]) == ("paid", "matched", 0)
    kinds = [line["kind"] for line in (await books.payout(paid["id"]))["lines"]]
    assert sorted(kinds) == ["payment", "payout_return"]
    assert "failed.v1" in await types_of_payouts(database)
    [only] = await books.payouts(status="failed")
    assert only["id"] == again["id"]
    await books.read()
    [row] = await books.statement()
    assert (row["payouts"], row["closing_balance"]) == (-(96.8 + 48.25), 0)


async def test_late_reports_undo_nothing(books: PayoutBooks, database: Database) -> None:
    await books.pay()
    await books.issuer.pay_out()
    await books.deliver()
    body = event("payout.created", {"id": (await books.payouts())[0]["gateway_payout_id"]})
    assert (await deliver_connect(books.client, body)).status_code == 200
    before = await types_of_payouts(database)
    books.delivered.clear()
    for number in range(2):
        await books.deliver(about_payouts, shuffled=Random(number))
    assert await types_of_payouts(database) == before
    assert len(await database.rows("SELECT id FROM payout_lines WHERE payout_id IS NULL")) == 1


async def test_the_reader_finds_what_no_webhook_brought(
    books: PayoutBooks, database: Database
) -> None:
    await books.pay("100.00")
    sent = await books.issuer.pay_out("in_transit")
    await books.read()
    assert [payout["status"] for payout in await books.payouts()] == ["in_transit"]
    await books.issuer.settle_payout(sent["id"], "paid")
    await books.pay("50.00")
    await books.read()
    [payout] = await books.payouts()
    assert (payout["status"], payout["reconciliation"]) == ("paid", "matched")
    [row] = await books.statement()
    assert (row["payments"], row["payouts"], row["closing_balance"]) == (150, -96.8, 48.25)
    assert await types_of_payouts(database) == [
        *("created.v1", "reconciled.v1"),
        "paid.v1",
    ]


async def test_a_gateway_that_does_not_answer_is_asked_again(
    books: PayoutBooks, network: UnreliableNetwork, database: Database
) -> None:
    await books.pay()
    await books.issuer.pay_out()
    network.lose_answer = lambda request: request.url.path == "/v1/balance_transactions"
    await books.deliver()
    await books.read()
    assert await books.payouts() == []
    network.heal()
    await database.rows("UPDATE webhook_events SET next_attempt_at = now() RETURNING id")
    await books.process()
    [payout] = await books.payouts()
    assert payout["reconciliation"] == "matched"


async def test_accounts_are_read_in_turn(
    opened: Open, gateways: Gateways, transactions: Transactions, database: Database
) -> None:
    first, second = await opened(), await opened()
    for books in (first, second):
        await books.pay()
    reader = PayoutReader(transactions, gateways)
    await reader.run()
    rows = await database.rows("SELECT balance_read_until AS until FROM payment_accounts")
    assert all(row["until"] for row in rows)
    await second.pay()
    await reader.run()  # not due yet
    assert len(await database.rows("SELECT id FROM payout_lines")) == 2


async def test_a_payout_that_the_owner_chose_has_no_lines(books: PayoutBooks) -> None:
    await books.pay(payment_token="pm_card_bypassPending")
    await books.issuer._post("/v1/payouts", {"amount": 1000, "currency": "usd"})
    await books.deliver()
    [payout] = await books.payouts()
    assert (payout["is_automatic"], payout["reconciliation"]) == (False, "unlisted")
    assert (payout["difference"], payout["unknown_lines"]) == (None, 0)


async def test_payouts_of_others_are_not_seen(opened: Open, tokens: Tokens) -> None:
    own, other = await opened(), await opened()
    for books in (own, other):
        await books.pay()
        await books.issuer.pay_out()
        await books.deliver()
    [payout] = await other.payouts()
    client, path = own.client, f"{own.path}/payouts"
    hidden = await client.get(f"{path}/{payout['id']}", headers=own.owner)
    assert (hidden.status_code, hidden.json()["code"]) == (404, "payout_not_found")
    assert payout["id"] not in [each["id"] for each in await own.payouts()]
    [row] = await own.statement()
    assert row["gateway_account"] == own.account
    member = tokens.bearer(5, "therapist", own.organization_id)
    for address in (path, f"{path}/{payout['id']}", f"{path}/statement?month=2026-11"):
        assert (await client.get(address, headers=other.owner)).status_code == 404
        assert (await client.get(address, headers=member)).status_code == 403


async def test_a_payout_and_a_statement_as_csv(books: PayoutBooks) -> None:
    await books.pay("399.99")
    await books.issuer.pay_out()
    await books.deliver()
    [payout] = await books.payouts()
    client, path = books.client, f"{books.path}/payouts"
    for address, options in (
        (f"{path}/{payout['id']}?format=csv", {}),
        (f"{path}/{payout['id']}", {"Accept": "text/csv"}),
        (f"{path}/statement?month={this_month()}&format=csv", {}),
        (f"{path}/statement?month={this_month()}", {"Accept": "text/csv"}),
    ):
        answer = await client.get(address, headers=books.owner | options)
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["vary"] == "Accept"
        [row] = list(csv.DictReader(io.StringIO(answer.text)))
        assert {"399.99", "USD"} <= set(row.values())
    refused = await client.get(f"{path}/{payout['id']}?bom=true", headers=books.owner)
    assert refused.status_code == 422


async def test_a_month_begins_in_the_organizations_time_zone(
    books: PayoutBooks, database: Database
) -> None:
    for _ in range(3):
        await books.pay("100.00")
    await books.read()
    moments = ("2026-10-31 22:59:59+00", "2026-10-31 23:00:00+00", "2026-11-30 23:00:00+00")
    lines = await database.rows("SELECT id FROM payout_lines ORDER BY id")
    for line, moment in zip(lines, moments, strict=True):
        await database.rows(
            f"UPDATE payout_lines SET occurred_at = '{moment}' WHERE id = $1 RETURNING id",
            line["id"],
        )
    net = 96.8
    balances = {"2026-10": (0, net), "2026-11": (net, 193.6), "2026-12": (193.6, 290.4)}
    for month, (opening, closing) in balances.items():
        [row] = await books.statement(month)
        assert row["time_zone"] == "Europe/Warsaw"
        assert (row["opening_balance"], row["closing_balance"]) == (opening, closing)
        assert row["payments"] == 100
    assert await books.statement("2026-09") == []
    for month in ("2026-13", "2026", "2026-1", "0999-01"):
        answer = await books.client.get(
            f"{books.path}/payouts/statement", params={"month": month}, headers=books.owner
        )
        assert answer.status_code == 422


async def test_events_of_unknown_accounts_and_of_the_installation_change_nothing(
    books: PayoutBooks, issuer: CardIssuer, database: Database
) -> None:
    foreign = issuer.of(await issuer.account())
    body = event("payout.paid", {"id": "po_1"}, account=foreign._headers["Stripe-Account"])
    assert (await deliver_connect(books.client, body)).status_code == 200
    await books.process()
    assert await database.rows("SELECT id FROM payouts") == []
    [row] = await database.rows("SELECT outcome FROM webhook_events")
    assert row["outcome"] == "unchanged"


class TestInstallation:
    """One account receives the payments of all organizations."""

    @pytest.fixture
    def accounts(self) -> AccountMode:
        return AccountMode.INSTALLATION

    async def test_there_are_no_payouts(self, client: httpx.AsyncClient, tokens: Tokens) -> None:
        owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
        path = f"/api/organizations/{ORGANIZATION}/payouts"
        for address in (path, f"{path}/1", f"{path}/statement?month=2026-11"):
            answer = await client.get(address, headers=owner)
            assert (answer.status_code, answer.json()["code"]) == (409, "payouts_not_available")

    async def test_former_accounts_are_still_seen(self, books: PayoutBooks) -> None:
        assert await books.payouts() == []


STEPS = st.tuples(
    st.sampled_from(
        [
            *("pay", "pay", "pay", "refund", "refund", "console", "dispute", "win", "lose"),
            *("pay out", "pay out", "fail", "deliver", "read"),
        ]
    ),
    st.integers(100, 60_000),
    st.integers(0, 5),
)


class Ledger:
    """Random steps of one organization; what is refused changes nothing."""

    def __init__(self, books: PayoutBooks, random: Random) -> None:
        self.books = books
        self.random = random
        self.paid: list[tuple[int, str]] = []

    async def act(self, kind: str, amount: int, which: int) -> None:
        issuer, euros = self.books.issuer, f"{Decimal(amount) / 100:.2f}"
        try:
            match kind:
                case "pay":
                    currency = "EUR" if which == 0 else "USD"
                    self.paid.append(await self.books.pay(euros, currency=currency))
                case "pay out":
                    await issuer.pay_out(currency="eur" if which == 0 else "usd")
                case "fail":
                    await issuer.pay_out("failed")
                case "deliver":
                    await self.books.deliver(shuffled=self.random)
                case "read":
                    await self.books.read()
                case _ if self.paid:
                    await self._take_back(kind, amount, *self.paid[which % len(self.paid)])
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 400:
                raise

    async def _take_back(self, kind: str, amount: int, payment_id: int, intent: str) -> None:
        issuer = self.books.issuer
        if kind == "refund":
            await self.books.refund(payment_id, amount=f"{Decimal(amount) / 100:.2f}")
        elif kind == "console":
            await issuer.refund(intent, amount)
        else:
            dispute = await issuer.dispute(intent)
            if kind != "dispute":
                await issuer.decide_dispute(dispute["id"], {"win": "won", "lose": "lost"}[kind])


@given(steps=st.lists(STEPS, min_size=1, max_size=14), seed=st.integers(0, 1000))
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_books_and_gateway_agree_to_the_cent(
    opened: Open, database: Database, steps: list[tuple[str, int, int]], seed: int
) -> None:
    books = await opened()
    await books.set_fee(percent=1.75, fixed_amount=0.2, fixed_currency="USD")
    ledger = Ledger(books, Random(seed))
    for step in steps:
        await ledger.act(*step)
    await books.deliver(shuffled=ledger.random)
    await books.read()
    for payout in await books.payouts():
        assert payout["unknown_lines"] == 0
        assert payout["difference"] in (0, None)
        assert payout["reconciliation"] == "matched", payout
    statement = {row["currency"]: row for row in await books.statement()}
    balance = await books.issuer.balance()
    assert {c.lower(): _cents(row["closing_balance"]) for c, row in statement.items()} == balance
    for currency, row in statement.items():
        assert (row["other"], row["unknown_lines"]) == (0, 0)
        [sums] = await database.rows(
            "SELECT coalesce(sum(captured_amount), 0) AS paid, coalesce(sum(refunded_amount), 0)"
            " AS refunded FROM payment_transactions WHERE organization_id = $1 AND currency = $2",
            books.organization_id,
            currency,
        )
        assert _cents(row["payments"]) == sums["paid"] * 100
        assert _cents(row["refunds"]) == -sums["refunded"] * 100
        parts = ("payments", "refunds", "disputes", "gateway_fees", "platform_fees", "payouts")
        total = sum(_cents(row[part]) for part in parts)
        assert _cents(row["opening_balance"]) + total == _cents(row["closing_balance"])


def _cents(amount: float) -> int:
    return round(amount * 100)
