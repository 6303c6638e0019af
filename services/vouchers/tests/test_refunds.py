"""Refunds by quote: sessions are withheld first, and restored if the refund fails."""

import asyncio
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import pytest

from services.vouchers.tests.events import deliver, dispute, refund, refund_failed
from services.vouchers.tests.outside import ORGANIZATION, Payments
from services.vouchers.tests.people import (
    Headers,
    People,
    buy,
    expire,
    new_type,
    new_voucher,
    redeem,
)
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def _quote(
    client: httpx.AsyncClient, headers: Headers, voucher_id: int, **body: Any
) -> httpx.Response:
    path = f"/api/vouchers/{voucher_id}/refund-quote"
    return await client.post(path, json=body or None, headers=headers)


async def _take(
    client: httpx.AsyncClient, headers: Headers, quote: dict[str, Any], **body: Any
) -> httpx.Response:
    path = f"/api/vouchers/{quote['voucher_id']}/refunds"
    return await client.post(path, json={"quote_id": quote["id"], **body}, headers=headers)


async def _quoted(
    client: httpx.AsyncClient, people: People, voucher_id: int, **body: Any
) -> dict[str, Any]:
    answer = await _quote(client, people.owner, voucher_id, **body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def _shown(client: httpx.AsyncClient, people: People, voucher_id: int) -> dict[str, Any]:
    answer = await client.get(f"/api/vouchers/{voucher_id}", headers=people.owner)
    shown: dict[str, Any] = answer.json()
    return shown


async def _used(client: httpx.AsyncClient, people: People, sessions: int) -> dict[str, Any]:
    """Return a voucher of ten sessions of which some were used."""
    voucher = await new_voucher(client, people)
    for _ in range(sessions):
        answer = await redeem(client, people.therapist, voucher["id"])
        assert answer.status_code == 201
    return voucher


async def _withheld(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a voucher, all sessions spent but seven that wait for their money, and the quote."""
    payments.refund_status = "pending"
    voucher = await _used(client, people, 2)
    quote = await _quoted(client, people, voucher["id"], sessions=7)
    await _take(client, people.owner, quote)
    await redeem(client, people.therapist, voucher["id"])
    return voucher, quote


async def _actions_of(database: Database, voucher_id: int) -> list[tuple[str, dict[str, Any]]]:
    return [
        (event["data"]["action"], event["data"]["new_values"])
        for event in await database.events()
        if event["subject"] == f"voucher/{voucher_id}"
    ]


async def test_unused_regular_sessions_pro_rata(client: httpx.AsyncClient, people: People) -> None:
    voucher = await _used(client, people, 3)
    missed = await redeem(client, people.therapist, voucher["id"], kind="backup", reason="missed")
    assert missed.status_code == 201
    answer = await _quote(client, people.client, voucher["id"])
    assert answer.status_code == 201
    assert b'"amount":279.99' in answer.content
    quote = answer.json()
    assert quote["rule"] == "pro_rata_of_unused_regular_sessions"
    assert (quote["unused_sessions"], quote["sessions"], quote["currency"]) == (7, 7, "PLN")
    assert quote["valid_until"] > quote["created_at"]
    part = await _quoted(client, people, voucher["id"], sessions=2)
    assert (part["amount"], part["unused_sessions"], part["sessions"]) == (80.00, 7, 2)
    too_many = await _quote(client, people.owner, voucher["id"], sessions=8)
    assert too_many.status_code == 422
    assert (await _shown(client, people, voucher["id"]))["regular_sessions_left"] == 7


async def test_yen_are_quoted_whole(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    payments.currency = "JPY"
    terms = {"price": 1000, "currency": "JPY", "total_sessions": 3}
    voucher = await new_voucher(client, people, **terms)
    quote = await _quoted(client, people, voucher["id"], sessions=1)
    assert (quote["amount"], quote["currency"]) == (333, "JPY")


async def test_a_part_goes_back_and_its_codes_with_it(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await _used(client, people, 3)
    quote = await _quoted(client, people, voucher["id"], sessions=2)
    answer = await _take(client, people.owner, quote, reason="moves away")
    assert (answer.status_code, answer.json()["status"]) == (201, "succeeded"), answer.text
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["payment_status"]) == ("active", "partially_refunded")
    assert (shown["refunded_sessions"], shown["regular_sessions_left"]) == (2, 5)
    taken = [code for code in shown["codes"] if code["is_refunded"]]
    assert [code["is_backup"] or code["is_used"] for code in taken] == [False, False]
    refused = await redeem(client, people.therapist, voucher["id"], code=taken[0]["code"])
    assert (refused.status_code, refused.json()["code"]) == (409, "code_refunded")
    for _ in range(5):
        assert (await redeem(client, people.therapist, voucher["id"])).status_code == 201
    assert (await _shown(client, people, voucher["id"]))["status"] == "completed"
    [requested, noted] = [
        action
        for action in await _actions_of(database, voucher["id"])
        if action[0] in ("REFUND", "UPDATE")
    ]
    assert requested[1] == {
        "refunded_sessions": 2,
        "refund_quote_id": quote["id"],
        "transaction_id": quote["transaction_id"],
        "sessions": 2,
        "amount": "80.00",
        "currency": "PLN",
        "client_id": voucher["client_id"],
        "reason": "moves away",
    }
    assert noted[1] == {"payment_status": "partially_refunded"}


async def test_the_whole_remainder_ends_the_voucher(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    voucher = await _used(client, people, 4)
    quote = await _quoted(client, people, voucher["id"])
    assert (await _take(client, people.owner, quote)).status_code == 201
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["payment_status"]) == ("cancelled", "partially_refunded")
    assert (shown["refunded_sessions"], shown["regular_sessions_left"]) == (6, 0)
    before = await _actions_of(database, voucher["id"])
    assert before[-1][0] == "CANCEL"
    assert before[-1][1]["reason"] == "refunded"
    event = refund(voucher["id"], "239.99", quote_id=quote["id"])
    await deliver(transactions, event)
    assert await _actions_of(database, voucher["id"]) == before, "the answer came first"
    again = await _quote(client, people.owner, voucher["id"])
    assert (again.status_code, again.json()["code"]) == (409, "nothing_to_refund")


async def test_nothing_used_is_everything_back(client: httpx.AsyncClient, people: People) -> None:
    voucher = await new_voucher(client, people)
    quote = await _quoted(client, people, voucher["id"])
    assert quote["amount"] == 399.99
    await _take(client, people.owner, quote)
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["payment_status"]) == ("cancelled", "refunded")


async def test_a_voucher_used_meanwhile_needs_another_quote(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    voucher = await _used(client, people, 1)
    quote = await _quoted(client, people, voucher["id"])
    await redeem(client, people.therapist, voucher["id"])
    stale = await _take(client, people.owner, quote)
    assert (stale.status_code, stale.json()["code"]) == (409, "refund_quote_outdated")
    assert payments.refunds == {}
    fresh = await _quoted(client, people, voucher["id"])
    assert (fresh["unused_sessions"], fresh["amount"]) == (8, 319.99)
    assert (await _take(client, people.owner, fresh)).status_code == 201


async def test_a_quote_of_yesterday(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    quote = await _quoted(client, people, voucher["id"])
    async with database.admin() as admin:
        await admin.execute("UPDATE refund_quotes SET valid_until = now() - interval '1 second'")
    late = await _take(client, people.owner, quote)
    assert (late.status_code, late.json()["code"]) == (409, "refund_quote_expired")


async def test_two_quotes_for_the_same_sessions_pay_once(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    voucher = await _used(client, people, 5)
    quotes = [await _quoted(client, people, voucher["id"]) for _ in range(3)]
    payments.pause = 0.05
    answers = await asyncio.gather(
        *(_take(client, people.owner, quote) for quote in quotes for _ in range(4))
    )
    codes = sorted(answer.json().get("code", "made") for answer in answers)
    assert codes.count("made") == 1
    assert set(codes) == {"made", "refund_quote_outdated", "refund_quote_taken"}
    assert len(payments.refunds) == 1


@pytest.mark.parametrize("lost", ["break_before", "break_after"])
async def test_no_second_quote_while_the_money_of_the_first_is_under_way(
    client: httpx.AsyncClient,
    people: People,
    payments: Payments,
    transactions: Transactions,
    lost: str,
) -> None:
    """Its sessions are withheld, and payments may not have heard of it: five sessions and one more
    would seem to bring six sessions' money, all for the one."""
    voucher = await new_voucher(client, people)
    quote = await _quoted(client, people, voucher["id"], sessions=5)
    setattr(payments, lost, httpx.ConnectError("lost"))
    assert (await _take(client, people.owner, quote)).status_code == 503
    setattr(payments, lost, None)
    refused = await _quote(client, people.owner, voucher["id"], sessions=1)
    assert (refused.status_code, refused.json()["code"]) == (409, "refund_under_way")
    await deliver(transactions, refund_failed(voucher["id"], quote["id"]))
    payments.returned.clear()
    assert (await _quoted(client, people, voucher["id"], sessions=1))["amount"] == 40.00


async def test_no_quote_while_money_without_a_quote_is_under_way(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    voucher = await new_voucher(client, people)
    payments.pending[voucher["id"]] = Decimal("80.00")
    refused = await _quote(client, people.owner, voucher["id"], sessions=1)
    assert (refused.status_code, refused.json()["code"]) == (409, "refund_under_way")


async def test_a_refund_between_the_answer_of_payments_and_the_quote_outdates_it(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    voucher = await new_voucher(client, people)
    other = await _quoted(client, people, voucher["id"], sessions=3)
    payments.meanwhile = partial(_take, client, people.owner, other)
    quote = await _quoted(client, people, voucher["id"], sessions=1)
    assert quote["amount"] == 40.00
    outdated = await _take(client, people.owner, quote)
    assert (outdated.status_code, outdated.json()["code"]) == (409, "refund_quote_outdated")
    assert [refund["amount"] for refund in payments.refunds.values()] == ["120.00"]


async def test_a_session_and_its_refund_race(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    """Of the last session one thing becomes: it takes place, or its money goes back."""
    for _ in range(4):
        voucher = await _used(client, people, 9)
        quote = await _quoted(client, people, voucher["id"])
        back, spent = await asyncio.gather(
            _take(client, people.owner, quote), redeem(client, people.therapist, voucher["id"])
        )
        assert sorted((back.status_code, spent.status_code)) == [201, 409]
    assert all(refund["status"] == "succeeded" for refund in payments.refunds.values())


async def test_while_the_gateway_thinks_the_sessions_wait(
    client: httpx.AsyncClient, people: People, payments: Payments, transactions: Transactions
) -> None:
    payments.refund_status = "pending"
    voucher = await _used(client, people, 2)
    quote = await _quoted(client, people, voucher["id"])
    answer = await _take(client, people.owner, quote)
    assert (answer.status_code, answer.json()["status"]) == (201, "pending")
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["regular_sessions_left"]) == ("active", 0)
    for order in ({}, {"kind": "backup", "reason": "missed"}):
        refused = await redeem(client, people.therapist, voucher["id"], **order)
        assert (refused.status_code, refused.json()["code"]) == (409, "voucher_exhausted")
    await deliver(transactions, refund(voucher["id"], "319.99", quote_id=quote["id"]))
    assert (await _shown(client, people, voucher["id"]))["status"] == "cancelled"


async def test_money_that_does_not_go_gives_the_sessions_again(
    client: httpx.AsyncClient,
    people: People,
    payments: Payments,
    transactions: Transactions,
    database: Database,
) -> None:
    voucher, quote = await _withheld(client, people, payments)
    assert (await _shown(client, people, voucher["id"]))["status"] == "completed"
    await deliver(transactions, refund_failed(voucher["id"], quote["id"]))
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["payment_status"]) == ("active", "paid")
    assert (shown["refunded_sessions"], shown["regular_sessions_left"]) == (0, 7)
    assert not any(code["is_refunded"] for code in shown["codes"])
    actions = [action for action, _ in await _actions_of(database, voucher["id"])]
    assert actions[-3:] == ["COMPLETE", "RESTORE", "REOPEN"]


async def test_sessions_that_come_back_after_a_lost_dispute_end_with_the_voucher(
    client: httpx.AsyncClient,
    people: People,
    payments: Payments,
    transactions: Transactions,
    database: Database,
) -> None:
    """The quote's sessions were withheld, the others spent, and then the bank took the money."""
    voucher, quote = await _withheld(client, people, payments)
    await deliver(transactions, dispute("closed", voucher["id"], 1, "lost"))
    await deliver(transactions, refund_failed(voucher["id"], quote["id"]))
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["regular_sessions_left"]) == ("cancelled", 7)
    actions = [action for action, _ in await _actions_of(database, voucher["id"])]
    assert actions[-3:] == ["RESTORE", "REOPEN", "CANCEL"]


async def test_a_refused_refund_is_reported_at_once(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    payments.refund_status = "failed"
    voucher = await new_voucher(client, people)
    quote = await _quoted(client, people, voucher["id"])
    answer = await _take(client, people.owner, quote)
    assert (answer.status_code, answer.json()["code"]) == (409, "refund_refused")
    assert "No way back." in answer.text
    assert (await _shown(client, people, voucher["id"]))["regular_sessions_left"] == 10


async def test_money_that_is_gone_is_known_before_anything_is_written(
    client: httpx.AsyncClient, people: People, payments: Payments, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    quote = await _quoted(client, people, voucher["id"])
    payments.returned[voucher["id"]] = Decimal(1)
    before = await database.events()
    answer = await _take(client, people.owner, quote)
    assert (answer.status_code, answer.json()["code"]) == (409, "refund_refused")
    assert payments.refunds == {}
    assert await database.events() == before
    [row] = await database.rows("SELECT status, version FROM vouchers")
    assert (row["status"], row["version"]) == ("active", voucher["version"])
    [kept] = await database.rows("SELECT status FROM refund_quotes")
    assert kept["status"] == "open"


@pytest.mark.parametrize("lost", ["break_before", "break_after"])
async def test_a_lost_call_is_carried_on_by_the_same_key(
    client: httpx.AsyncClient, people: People, payments: Payments, lost: str
) -> None:
    voucher = await new_voucher(client, people)
    quote = await _quoted(client, people, voucher["id"])
    headers = {**people.owner, "Idempotency-Key": f"give-back-{voucher['id']}"}
    setattr(payments, lost, httpx.ConnectError("lost"))
    unknown = await _take(client, headers, quote)
    assert unknown.status_code == 503
    setattr(payments, lost, None)
    known = await _take(client, headers, quote)
    assert (known.status_code, known.json()["status"]) == (201, "succeeded"), known.text
    assert (await _take(client, headers, quote)).json() == known.json()
    assert len(payments.refunds) == 1
    assert (await _shown(client, people, voucher["id"]))["status"] == "cancelled"


async def test_what_cannot_be_quoted(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    kind = await new_type(client, people.owner, total_sessions=1)
    pending = (await buy(client, people.client, kind["id"], payment_token="pm_3ds")).json()["id"]
    spent = (await buy(client, people.client, kind["id"])).json()["id"]
    assert (await redeem(client, people.therapist, spent)).status_code == 201
    run_out = (await new_voucher(client, people))["id"]
    free = (await new_voucher(client, people, price=0))["id"]
    old = (await new_voucher(client, people))["id"]
    async with database.admin() as admin:
        await admin.execute("UPDATE vouchers SET status = 'expired' WHERE id = $1", run_out)
        # A voucher of version 1 has no payment here.
        await admin.execute(
            "INSERT INTO vouchers (id, organization_id, client_id, name, total_sessions,"
            " backup_sessions, booking_rules, used_sessions, used_backup_sessions, purchase_date,"
            " valid_until, status, payment_status, created_at, updated_at, version)"
            " SELECT 1000000, organization_id, client_id, name, 5, 0, '{}', 0, 0, purchase_date,"
            " valid_until, 'active', 'paid', now(), now(), 1 FROM vouchers WHERE id = $1",
            old,
        )
    for number, code, headers in (
        (pending, "voucher_unpaid", people.owner),
        (spent, "voucher_exhausted", people.owner),
        (run_out, "voucher_expired", people.client),
        (free, "nothing_to_refund", people.owner),
        (1_000_000, "nothing_to_refund", people.owner),
    ):
        answer = await _quote(client, headers, number)
        assert (answer.status_code, answer.json()["code"]) == (409, code)
    for number in (0, -1, 1.5, "x", 20_000):
        assert (await _quote(client, people.owner, old, sessions=number)).status_code == 422


async def test_staff_refund_an_expired_voucher_with_a_reason(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await _used(client, people, 2)
    await expire(database, voucher)
    quote = await _quoted(client, people, voucher["id"], sessions=3)
    assert quote["amount"] == 120.00
    refused = await _take(client, people.owner, quote)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "reason")
    assert (await _take(client, people.owner, quote, reason="Was ill")).status_code == 201
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["payment_status"]) == ("expired", "partially_refunded")
    assert (shown["refunded_sessions"], shown["regular_sessions_left"]) == (3, 5)
    rest = await _quoted(client, people, voucher["id"])
    assert (await _take(client, people.owner, rest, reason="Moves away")).status_code == 201
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["regular_sessions_left"]) == ("expired", 0)
    reasons = [
        values["reason"]
        for action, values in await _actions_of(database, voucher["id"])
        if action == "REFUND"
    ]
    assert reasons == ["Was ill", "Moves away"]


async def test_sessions_of_an_expired_voucher_return_if_its_refund_fails(
    client: httpx.AsyncClient, people: People, payments: Payments, database: Database
) -> None:
    voucher = await _used(client, people, 2)
    await expire(database, voucher)
    payments.refund_status = "failed"
    quote = await _quoted(client, people, voucher["id"])
    failed = await _take(client, people.owner, quote, reason="Was ill")
    assert (failed.status_code, failed.json()["code"]) == (409, "refund_refused")
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["regular_sessions_left"]) == ("expired", 8)


async def test_an_active_voucher_that_staff_cancelled_may_be_given_back(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher = await _used(client, people, 2)
    await client.post(f"/api/vouchers/{voucher['id']}/cancel", headers=people.owner)
    quote = await _quoted(client, people, voucher["id"])
    assert quote["amount"] == 319.99
    assert (await _take(client, people.owner, quote)).status_code == 201
    shown = await _shown(client, people, voucher["id"])
    assert (shown["status"], shown["payment_status"]) == ("cancelled", "partially_refunded")


async def test_who_may_ask_and_who_may_give_back(
    client: httpx.AsyncClient, people: People, tokens: Tokens
) -> None:
    voucher = await new_voucher(client, people)
    number = voucher["id"]
    # caller → quote, refund of a quote that never was
    expected = {
        "anonymous": (401, 401),
        "admin": (201, 404),
        "owner": (201, 404),
        "manager": (201, 403),
        "cashier": (201, 404),
        "client": (201, 403),
        "therapist": (403, 403),
        "staff": (403, 403),
        "second_client": (404, 404),
        "other_owner": (404, 404),
        "other_therapist": (404, 404),
        "other_client": (404, 404),
        "free_client": (404, 404),
    }
    cashier = tokens.bearer(17, "staff", ORGANIZATION, ("manage_payments",))
    callers = people.all() | {"cashier": cashier}
    assert set(callers) == set(expected)
    for name, headers in callers.items():
        asked = await _quote(client, headers, number)
        given = await _take(client, headers, {"voucher_id": number, "id": 987654321})
        assert (asked.status_code, given.status_code) == expected[name], name
        for answer in (asked, given):
            if answer.status_code == 403:
                assert answer.json()["detail"].startswith("Not authorized")
    theirs = await _take(client, people.admin, {"voucher_id": number, "id": 987654321})
    assert theirs.json()["code"] == "refund_quote_not_found"
