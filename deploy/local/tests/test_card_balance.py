"""Fees, balances and payouts are right to the cent, in the books of each account."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.card_gateway.store import Store
from deploy.local.tests.card_books import Books, opened_books

pytestmark = pytest.mark.anyio


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with opened_books(Store(":memory:")) as books:
        yield books


async def transaction(books: Books, identifier: str, account: str | None) -> list[object]:
    """Return amount, fee, net and type of a balance transaction."""
    row = await books.get(f"/v1/balance_transactions/{identifier}", None, account)
    assert row["net"] == row["amount"] - row["fee"]
    assert row["fee"] == sum(part["amount"] for part in row["fee_details"])
    return [row["amount"], row["fee"], row["net"], row["type"]]


async def balance(books: Books, account: str | None, status: str = "pending") -> int:
    """Return the balance of all currencies."""
    body = await books.get("/v1/balance", None, account)
    return sum(part["amount"] for part in body[status])


async def test_a_payment_has_stripes_fee_and_the_platforms(books: Books) -> None:
    account = await books.account()
    intent = await books.pay(account, 39_999, application_fee_amount=1000)
    charge = await books.get(f"/v1/charges/{intent['latest_charge']}", None, account)
    row = await transaction(books, charge["balance_transaction"], account)
    assert row == [39_999, 1190 + 1000, 37_809, "charge"]
    [fee] = (await books.get("/v1/application_fees"))["data"]
    assert (fee["account"], fee["amount"], fee["charge"]) == (account, 1000, charge["id"])
    assert charge["application_fee"] == fee["id"]
    assert await transaction(books, fee["balance_transaction"], None) == [
        *(1000, 0, 1000, "application_fee")
    ]
    assert (await balance(books, account), await balance(books, None)) == (37_809, 1000)


async def test_a_refund_returns_the_platforms_fee_only_if_asked(books: Books) -> None:
    account = await books.account()
    intent = await books.pay(account, 10_000, application_fee_amount=333)
    before = await balance(books, account)
    part = {"payment_intent": intent["id"], "amount": 5000}
    await books.post("/v1/refunds", part, account)
    assert await balance(books, account) == before - 5000
    with_fee = part | {"amount": 2500, "refund_application_fee": "true"}
    await books.post("/v1/refunds", with_fee, account)
    [fee] = (await books.get("/v1/application_fees"))["data"]
    assert fee["amount_refunded"] == 249, "three quarters of the charge are refunded now"
    assert await balance(books, account) == before - 5000 - 2500 + 249
    assert await balance(books, None) == 333 - 249
    rest = {"payment_intent": intent["id"], "refund_application_fee": "true"}
    await books.post("/v1/refunds", rest, account)
    assert await balance(books, None) == 0
    error = await books.post("/v1/refunds", rest, account, expect=400)
    assert error["code"] == "charge_already_refunded"


async def test_a_fee_is_of_direct_charges_alone_and_no_more_than_the_amount(books: Books) -> None:
    account = await books.account()
    fields = {"amount": 1000, "currency": "pln", "application_fee_amount": 1001}
    error = await books.post("/v1/payment_intents", fields, account, expect=400)
    assert error["param"] == "application_fee_amount"
    fields["application_fee_amount"] = 1
    error = await books.post("/v1/payment_intents", fields, expect=400)
    assert error["param"] == "application_fee_amount"


async def test_a_failed_refund_returns_the_money(books: Books) -> None:
    account = await books.account()
    intent = await books.pay(account, payment_method="pm_card_pendingRefund")
    before = await balance(books, account)
    refund = await books.post("/v1/refunds", {"payment_intent": intent["id"]}, account)
    assert refund["status"] == "pending"
    await books.post(f"/_test/refunds/{refund['id']}", {"status": "failed"}, account)
    charge = await books.get(f"/v1/charges/{intent['latest_charge']}", None, account)
    assert (charge["refunded"], charge["amount_refunded"]) == (False, 0)
    assert await balance(books, account) == before
    again = await books.post("/v1/refunds", {"payment_intent": intent["id"]}, account)
    await books.post(f"/_test/refunds/{again['id']}", {"status": "succeeded"}, account)


async def test_a_dispute_takes_the_amount_and_a_fee_until_it_is_won(books: Books) -> None:
    account = await books.account()
    intent = await books.pay(account, 10_000)
    fields = {"payment_intent": intent["id"]}
    dispute = await books.post("/_test/disputes", fields, account)
    assert [row["net"] for row in dispute["balance_transactions"]] == [-11_500]
    error = await books.post("/v1/refunds", fields, account, expect=400)
    assert error["code"] == "charge_disputed"
    evidence = {"evidence[uncategorized_text]": "winning_evidence"}
    won = await books.post(f"/v1/disputes/{dispute['id']}", evidence, account)
    assert won["status"] == "won"
    assert [row["net"] for row in won["balance_transactions"]] == [-11_500, 10_000]
    await books.post(f"/v1/disputes/{dispute['id']}/close", None, account, expect=400)
    await books.post("/v1/refunds", fields, account)


async def test_a_dispute_is_lost_and_an_inquiry_takes_nothing(books: Books) -> None:
    account = await books.account()
    intent = await books.pay(account, payment_method="pm_card_createDispute")
    [dispute] = (await books.get("/v1/disputes", None, account))["data"]
    assert dispute["payment_intent"] == intent["id"]
    lost = await books.post(f"/_test/disputes/{dispute['id']}", {"status": "lost"}, account)
    assert (lost["status"], len(lost["balance_transactions"])) == ("lost", 1)
    before = await balance(books, account, "available")
    await books.pay(account, payment_method="pm_card_createDisputeInquiry")
    inquiry = (await books.get("/v1/disputes", None, account))["data"][0]
    assert inquiry["status"] == "warning_needs_response"
    assert await balance(books, account, "available") == before
    closed = await books.post(f"/v1/disputes/{inquiry['id']}/close", None, account)
    assert closed["status"] == "warning_closed"


async def test_a_payout_lists_what_it_consists_of(books: Books) -> None:
    account, other = await books.account(), await books.account()
    await books.pay(other, 77_777)
    first = await books.pay(account, 39_999, application_fee_amount=500)
    second = await books.pay(account, 20_000)
    await books.post("/v1/refunds", {"payment_intent": first["id"], "amount": 1234}, account)
    await books.post("/_test/disputes", {"payment_intent": second["id"]}, account)
    payout = await books.post("/_test/payouts", {"currency": "pln"}, account)
    rows = await books.get(
        "/v1/balance_transactions", {"payout": payout["id"], "limit": 100}, account
    )
    parts = [row for row in rows["data"] if row["type"] != "payout"]
    assert sorted(row["type"] for row in parts) == ["adjustment", "charge", "charge", "refund"]
    assert payout["amount"] == sum(row["net"] for row in parts)
    assert (payout["status"], payout["automatic"]) == ("paid", True)
    assert payout["reconciliation_status"] == "completed"
    assert await balance(books, account, "available") == 0
    error = await books.post("/_test/payouts", {"currency": "pln"}, account, expect=400)
    assert "nothing to pay out" in error["message"]
    assert await balance(books, other) == 77_777 - 2286


async def test_a_failed_payout_is_a_part_of_the_next(books: Books) -> None:
    account = await books.account()
    await books.pay(account, 10_000)
    failed = await books.post("/_test/payouts", {"currency": "pln", "status": "failed"}, account)
    assert failed["failure_code"] == "account_closed"
    await books.pay(account, 20_000)
    payout = await books.post("/_test/payouts", {"currency": "pln"}, account)
    rows = await books.get("/v1/balance_transactions", {"payout": payout["id"]}, account)
    types = [row["type"] for row in rows["data"]]
    assert sorted(types) == ["charge", "payout", "payout_failure"]
    assert payout["amount"] == failed["amount"] + 20_000 - 610


async def test_a_manual_payout_takes_what_is_available(books: Books) -> None:
    account = await books.account()
    await books.pay(account, 10_000)
    fields = {"amount": 100, "currency": "pln"}
    error = await books.post("/v1/payouts", fields, account, expect=400)
    assert error["code"] == "balance_insufficient"
    await books.pay(account, 10_000, payment_method="pm_card_bypassPending")
    payout = await books.post("/v1/payouts", fields, account)
    assert (payout["automatic"], payout["status"]) == (False, "pending")
    canceled = await books.post(f"/v1/payouts/{payout['id']}/cancel", None, account)
    assert canceled["status"] == "canceled"
    assert await balance(books, account, "available") == 10_000 - 320
    await books.post(f"/_test/accounts/{account}", {"payouts_enabled": "false"})
    error = await books.post("/v1/payouts", fields, account, expect=400)
    assert error["code"] == "payouts_not_allowed"


PART = st.tuples(
    st.sampled_from(["pay", "refund", "dispute", "win", "pay out", "fail"]),
    st.integers(200, 50_000),
)


@given(parts=st.lists(PART, max_size=12))
@settings(max_examples=25, deadline=None)
async def test_payouts_and_the_balance_are_all_that_was_earned(
    parts: list[tuple[str, int]],
) -> None:
    async with opened_books(Store(":memory:")) as books:
        account = await books.account()
        paid: list[str] = []
        for kind, amount in parts:
            await act(books, account, kind, amount, paid)
        rows = await books.get("/v1/balance_transactions", {"limit": 100}, account)
        total = sum(row["net"] for row in rows["data"])
        statuses = ("available", "pending")
        assert total == sum([await balance(books, account, status) for status in statuses])
        for payout in (await books.get("/v1/payouts", None, account))["data"]:
            query = {"payout": payout["id"], "limit": 100}
            listed = await books.get("/v1/balance_transactions", query, account)
            assert sum(row["net"] for row in listed["data"]) == 0, "its parts and itself"


async def act(books: Books, account: str, kind: str, amount: int, paid: list[str]) -> None:
    """Do one thing; what is refused changes nothing."""
    if kind == "pay":
        paid.append((await books.pay(account, amount, application_fee_amount=amount // 50))["id"])
        return
    operations: dict[str, tuple[str, dict[str, Any]]] = {
        "refund": ("/v1/refunds", {"refund_application_fee": "true", "amount": amount}),
        "dispute": ("/_test/disputes", {}),
        "win": ("/_test/disputes", {}),
        "pay out": ("/_test/payouts", {"currency": "pln"}),
        "fail": ("/_test/payouts", {"currency": "pln", "status": "failed"}),
    }
    path, fields = operations[kind]
    if "payouts" not in path:
        fields = {**fields, "payment_intent": paid[-1] if paid else "pi_none"}
    headers = {"Stripe-Account": account}
    answer = await books.client.post(path, data=fields, headers=headers)
    if kind == "win" and answer.is_success:
        await books.post(f"/_test/disputes/{answer.json()['id']}", {"status": "won"}, account)
