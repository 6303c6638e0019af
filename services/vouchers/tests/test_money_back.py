"""Refunds without a quote: of an amount, in the payment gateway's console, after disputes."""

from typing import Any

import httpx
import pytest

from services.vouchers.tests.events import deliver, dispute, payment, refund
from services.vouchers.tests.people import People, buy, new_type, new_voucher, redeem
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def _row(database: Database, number: int) -> dict[str, Any]:
    [row] = await database.rows("SELECT * FROM vouchers WHERE id = $1", number)
    return row


async def _actions(database: Database, number: int) -> list[str]:
    events = await database.events()
    return [e["data"]["action"] for e in events if e["subject"] == f"voucher/{number}"]


@pytest.mark.parametrize(
    ("amount", "sessions", "actions"),
    [
        ("39.00", 0, ["UPDATE"]),
        ("40.00", 1, ["REDUCE"]),
        ("100.00", 2, ["REDUCE"]),
        ("319.99", 8, ["CANCEL"]),
        ("390.00", 8, ["CANCEL"]),
        ("399.99", 8, ["CANCEL"]),
    ],
)
async def test_an_amount_takes_the_unused_sessions_that_it_pays_for(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    transactions: Transactions,
    amount: str,
    sessions: int,
    actions: list[str],
) -> None:
    voucher = await new_voucher(client, people)
    for _ in range(2):
        await redeem(client, people.therapist, voucher["id"])
    await deliver(transactions, refund(voucher["id"], amount))
    row = await _row(database, voucher["id"])
    assert row["refunded_sessions"] == sessions
    assert row["status"] == ("cancelled" if sessions == 8 else "active")
    in_full = amount == "399.99"
    assert row["payment_status"] == ("refunded" if in_full else "partially_refunded")
    [taken] = await database.rows("SELECT count(*) AS n FROM voucher_codes WHERE is_refunded")
    assert taken["n"] == sessions
    assert (await _actions(database, voucher["id"]))[2:] == actions


async def test_each_refund_takes_what_it_pays_for(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    voucher = await new_voucher(client, people)
    for amount, in_all, sessions in (("30.00", "30.00", 0), ("80.00", "110.00", 2)):
        await deliver(transactions, refund(voucher["id"], in_all, amount=amount))
        assert (await _row(database, voucher["id"]))["refunded_sessions"] == sessions


async def test_sessions_that_took_place_stay(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    kind = await new_type(client, people.owner, total_sessions=2)
    number = (await buy(client, people.client, kind["id"])).json()["id"]
    for _ in range(2):
        await redeem(client, people.therapist, number)
    await deliver(transactions, refund(number, "399.99"))
    row = await _row(database, number)
    assert (row["status"], row["payment_status"]) == ("completed", "refunded")
    assert (row["used_sessions"], row["refunded_sessions"]) == (2, 0)


async def test_a_part_that_overtakes_its_payment_is_missing_from_the_codes(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    kind = await new_type(client, people.owner)
    number = (await buy(client, people.client, kind["id"], payment_token="pm_3ds")).json()["id"]
    await deliver(transactions, refund(number, "80.00"), payment("succeeded", number))
    row = await _row(database, number)
    assert (row["status"], row["refunded_sessions"]) == ("active", 2)
    [taken] = await database.rows("SELECT count(*) AS n FROM voucher_codes WHERE is_refunded")
    assert taken["n"] == 2


async def test_a_disputed_voucher_rests_until_the_bank_decides_for_us(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    voucher = await new_voucher(client, people)
    number = voucher["id"]
    await deliver(transactions, dispute("opened", number, 1, "open"))
    shown = await client.get(f"/api/vouchers/{number}", headers=people.client)
    assert (shown.json()["status"], shown.json()["disputed_at"] is None) == ("active", False)
    refused = await redeem(client, people.therapist, number)
    assert (refused.status_code, refused.json()["code"]) == (409, "voucher_disputed")
    quote = await client.post(f"/api/vouchers/{number}/refund-quote", headers=people.owner)
    assert (quote.status_code, quote.json()["code"]) == (409, "voucher_disputed")
    await deliver(transactions, dispute("opened", number, 2, "open"))
    await deliver(transactions, dispute("closed", number, 1, "won"))
    assert (await redeem(client, people.therapist, number)).status_code == 409
    await deliver(transactions, dispute("closed", number, 2, "won"))
    assert (await redeem(client, people.therapist, number)).status_code == 201
    assert (await _actions(database, number))[2:] == ["UPDATE", "UPDATE"]


async def test_a_lost_dispute_ends_the_voucher(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    number = (await new_voucher(client, people))["id"]
    await redeem(client, people.therapist, number)
    opened, closed = dispute("opened", number, 1, "open"), dispute("closed", number, 1, "lost")
    await deliver(transactions, opened, closed)
    row = await _row(database, number)
    assert (row["status"], row["used_sessions"]) == ("cancelled", 1)
    [event] = [e for e in await database.events() if e["data"]["action"] == "CANCEL"]
    assert event["data"]["new_values"]["reason"] == "dispute_lost"
    assert (await redeem(client, people.therapist, number)).status_code == 409


@pytest.mark.parametrize(("status", "ended"), [("won", "active"), ("lost", "cancelled")])
async def test_the_end_of_a_dispute_before_its_beginning(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    transactions: Transactions,
    status: str,
    ended: str,
) -> None:
    number = (await new_voucher(client, people))["id"]
    await deliver(transactions, dispute("closed", number, 1, status))
    await deliver(transactions, dispute("opened", number, 1, "open"))
    row = await _row(database, number)
    assert (row["status"], row["disputed_at"]) == (ended, None)


@pytest.mark.parametrize("how", ["dispute_lost", "refunded"])
async def test_a_completed_voucher_without_its_money_ends_when_a_session_comes_back(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    transactions: Transactions,
    how: str,
) -> None:
    number = (await new_voucher(client, people, total_sessions=1))["id"]
    spent = (await redeem(client, people.therapist, number)).json()
    gone = {
        "dispute_lost": dispute("closed", number, 1, "lost"),
        "refunded": refund(number, "399.99"),
    }
    await deliver(transactions, gone[how])
    assert (await _row(database, number))["status"] == "completed"
    path = f"/api/vouchers/{number}/redemptions/{spent['id']}/reverse"
    assert (await client.post(path, json={}, headers=people.owner)).status_code == 201
    row = await _row(database, number)
    assert (row["status"], row["used_sessions"]) == ("cancelled", 0)
    assert (await _actions(database, number))[-2:] == ["REOPEN", "CANCEL"]
    cancellations = [e for e in await database.events() if e["data"]["action"] == "CANCEL"]
    assert [event["data"]["new_values"]["reason"] for event in cancellations] == [how]
    assert (await redeem(client, people.therapist, number)).status_code == 409
