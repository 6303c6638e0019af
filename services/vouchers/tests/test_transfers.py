"""Transfers: two vouchers' books agree, and the payment stays with its payer."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from services.vouchers.tests.events import deliver, dispute, refund
from services.vouchers.tests.outside import (
    CLIENT,
    FREE_CLIENT,
    OTHER_CLIENT,
    SECOND_CLIENT,
    Identity,
    Payments,
)
from services.vouchers.tests.people import (
    Headers,
    People,
    buy,
    expire,
    new_type,
    new_voucher,
    redeem,
)
from services.vouchers.tests.practice import THERAPIST, Practice, at
from shared.db import now
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def _post(
    client: httpx.AsyncClient, headers: Headers, voucher_id: int, path: str, **body: Any
) -> httpx.Response:
    return await client.post(
        f"/api/vouchers/{voucher_id}/{path}",
        json={"reason": "A gift to a sister", **body},
        headers=headers,
    )


async def _transfer(
    client: httpx.AsyncClient, people: People, voucher_id: int, **body: Any
) -> httpx.Response:
    body = {"client_id": SECOND_CLIENT, **body}
    return await _post(client, people.owner, voucher_id, "transfers", **body)


async def _received(
    client: httpx.AsyncClient, people: People, voucher_id: int, **body: Any
) -> dict[str, Any]:
    """Transfer sessions; return the receiver's voucher as the receiver sees it."""
    answer = await _transfer(client, people, voucher_id, **body)
    assert answer.status_code == 201, answer.text
    return await _shown(client, people.second_client, answer.json()["other_voucher_id"])


async def _shown(client: httpx.AsyncClient, headers: Headers, voucher_id: int) -> dict[str, Any]:
    answer = await client.get(f"/api/vouchers/{voucher_id}", headers=headers)
    assert answer.status_code == 200, answer.text
    voucher: dict[str, Any] = answer.json()
    return voucher


async def _require_agreement(database: Database) -> None:
    """Require that entries add up to 0, and to the stored sums of each voucher and its codes."""
    pairs = await database.rows(
        "SELECT a.id FROM transfer_entries a LEFT JOIN transfer_entries b ON b.opposite_id = a.id"
        " WHERE a.opposite_id IS NULL AND (b.id IS NULL OR a.sessions + b.sessions <> 0"
        " OR a.voucher_id <> b.other_voucher_id OR b.voucher_id <> a.other_voucher_id)"
    )
    assert pairs == []
    sums = await database.rows(
        "SELECT v.id, v.transferred_sessions, coalesce(sum(e.sessions), 0) AS entries,"
        " CASE WHEN v.received_from_id IS NULL THEN 0 ELSE v.total_sessions END AS received,"
        " (SELECT count(*) FROM voucher_codes c WHERE c.voucher_id = v.id AND c.is_transferred)"
        " AS codes FROM vouchers v LEFT JOIN transfer_entries e ON e.voucher_id = v.id"
        " GROUP BY v.id"
    )
    for row in sums:
        assert row["transferred_sessions"] == row["received"] - row["entries"], row
        assert row["transferred_sessions"] == row["codes"], row


async def test_some_sessions_get_a_voucher_of_their_own(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    assert (await redeem(client, people.therapist, voucher["id"])).status_code == 201
    received = await _received(client, people, voucher["id"], sessions=4)
    giver = await _shown(client, people.client, voucher["id"])
    assert (giver["transferred_sessions"], giver["regular_sessions_left"]) == (4, 5)
    assert (giver["status"], giver["backup_sessions_left"]) == ("active", 2)
    assert (received["total_sessions"], received["regular_sessions_left"]) == (4, 4)
    assert (received["backup_sessions"], received["received_from_id"]) == (0, voucher["id"])
    same = ("name", "frequency", "booking_rules", "valid_from", "valid_until", "currency")
    assert [received[name] for name in same] == [voucher[name] for name in same]
    assert (received["price"], received["status"], received["payment_status"]) == (
        0,
        "active",
        "paid",
    )
    old = {code["code"]: code["is_transferred"] for code in giver["codes"]}
    new = {code["code"] for code in received["codes"]}
    assert (list(old.values()).count(True), len(new), old.keys() & new) == (4, 4, set())
    await _require_agreement(database)


async def test_the_code_of_a_transferred_session_is_refused(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher = await new_voucher(client, people)
    received = await _received(client, people, voucher["id"], sessions=1)
    giver = await _shown(client, people.client, voucher["id"])
    [lost] = [code["code"] for code in giver["codes"] if code["is_transferred"]]
    refused = await redeem(client, people.therapist, voucher["id"], code=lost)
    assert (refused.status_code, refused.json()["code"]) == (409, "code_transferred")
    own = received["codes"][0]["code"]
    assert (await redeem(client, people.therapist, received["id"], code=own)).status_code == 201
    assert (await _shown(client, people.owner, received["id"]))["status"] == "completed"


async def test_all_sessions_complete_the_voucher_and_their_return_reopens_it(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    received = await _received(client, people, voucher["id"])
    assert received["total_sessions"] == 10
    giver = await _shown(client, people.client, voucher["id"])
    assert (giver["status"], giver["regular_sessions_left"]) == ("completed", 0)
    assert (await redeem(client, people.therapist, received["id"])).status_code == 201
    part = await _post(client, people.owner, received["id"], "returns", sessions=3)
    assert (part.status_code, part.json()["sessions"]) == (201, -3)
    giver = await _shown(client, people.client, voucher["id"])
    assert (giver["status"], giver["regular_sessions_left"]) == ("active", 3)
    await _require_agreement(database)
    rest = await _post(client, people.owner, received["id"], "returns")
    assert (rest.status_code, rest.json()["sessions"]) == (201, -6)
    left = await _shown(client, people.second_client, received["id"])
    assert (left["status"], left["transferred_sessions"]) == ("completed", 9)
    giver = await _shown(client, people.client, voucher["id"])
    assert (giver["transferred_sessions"], giver["regular_sessions_left"]) == (1, 9)
    for _ in range(9):
        assert (await redeem(client, people.therapist, voucher["id"])).status_code == 201
    await _require_agreement(database)
    nothing = await _post(client, people.owner, received["id"], "returns")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "voucher_exhausted")


async def test_both_sides_are_in_the_trail_and_in_the_lists(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    received = await _received(client, people, voucher["id"], sessions=2)
    await _post(client, people.owner, received["id"], "returns", sessions=1)
    events = {
        event["type"].split(".")[2]: event["data"]["new_values"]
        for event in await database.events()
        if event["type"].startswith("vouchers.voucher.")
    }
    assert events["transferred"] == {
        "transferred_sessions": 2,
        "client_id": CLIENT,
        "sessions": 2,
        "other_voucher_id": received["id"],
        "reason": "A gift to a sister",
    }
    new = events["received"]
    assert (new["client_id"], new["received_from_id"]) == (SECOND_CLIENT, voucher["id"])
    assert (new["sessions"], new["reason"]) == (2, "A gift to a sister")
    assert (events["returned"]["client_id"], events["returned"]["sessions"]) == (SECOND_CLIENT, 1)
    assert (events["regained"]["client_id"], events["regained"]["sessions"]) == (CLIENT, 1)
    for headers, voucher_id, sessions in (
        (people.client, voucher["id"], [1, -2]),
        (people.second_client, received["id"], [-1, 2]),
    ):
        listed = await client.get(f"/api/vouchers/{voucher_id}/transfers", headers=headers)
        assert [row["sessions"] for row in listed.json()] == sessions


async def test_booked_sessions_stay_with_the_giver(practice: Practice) -> None:
    client, people = practice.client, practice.people
    await practice.add_therapist()
    voucher = await practice.voucher(total_sessions=3)
    reservation = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    refused = await _transfer(client, people, voucher["id"], sessions=3)
    assert (refused.status_code, refused.json()["code"]) == (409, "sessions_booked")
    received = await _received(client, people, voucher["id"])
    assert received["total_sessions"] == 2
    giver = await _shown(client, people.client, voucher["id"])
    assert (giver["status"], giver["booked_sessions"]) == ("active", 1)
    none = await _transfer(client, people, voucher["id"])
    assert (none.status_code, none.json()["code"]) == (409, "sessions_booked")
    path = f"/api/reservations/{reservation['id']}/cancel"
    assert (await client.post(path, headers=people.client)).status_code == 200
    assert (await _transfer(client, people, voucher["id"])).status_code == 201
    await practice.require_sums()


async def test_what_cannot_be_transferred(
    client: httpx.AsyncClient, people: People, payments: Payments, database: Database
) -> None:
    voucher_type = await new_type(client, people.owner, total_sessions=1)
    unpaid = (await buy(client, people.client, voucher_type["id"], payment_token="pm_3ds")).json()
    spent, cancelled, run_out, pending = [
        (await buy(client, people.client, voucher_type["id"])).json() for _ in range(4)
    ]
    assert (await redeem(client, people.therapist, spent["id"])).status_code == 201
    await client.post(f"/api/vouchers/{cancelled['id']}/cancel", headers=people.owner)
    await expire(database, run_out)
    payments.pending[pending["id"]] = Decimal("80.00")
    received = await _received(client, people, (await new_voucher(client, people))["id"])
    for voucher_id, code in (
        (unpaid["id"], "voucher_unpaid"),
        (spent["id"], "voucher_exhausted"),
        (cancelled["id"], "voucher_cancelled"),
        (run_out["id"], "voucher_expired"),
        (pending["id"], "refund_under_way"),
    ):
        answer = await _transfer(client, people, voucher_id)
        assert (answer.status_code, answer.json()["code"]) == (409, code), answer.text
    chain = await _transfer(client, people, received["id"], client_id=CLIENT)
    assert (chain.status_code, chain.json()["code"]) == (409, "sessions_received")
    bought = await _post(client, people.owner, pending["id"], "returns")
    assert (bought.status_code, bought.json()["code"]) == (409, "nothing_received")


async def test_a_refund_that_is_under_way_and_a_freeze_refuse_a_transfer(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    voucher = await new_voucher(client, people)
    path = f"/api/vouchers/{voucher['id']}"
    quote = await client.post(f"{path}/refund-quote", json={"sessions": 1}, headers=people.owner)
    payments.refund_status = "pending"
    body = {"quote_id": quote.json()["id"]}
    assert (await client.post(f"{path}/refunds", json=body, headers=people.owner)).is_success
    refused = await _transfer(client, people, voucher["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "refund_under_way")
    frozen = await new_voucher(client, people)
    days = [(now().date() + timedelta(days=number)).isoformat() for number in (10, 12)]
    freeze = {"starts_on": days[0], "ends_on": days[1], "reason": "Ill"}
    path = f"/api/vouchers/{frozen['id']}/freezes"
    assert (await client.post(path, json=freeze, headers=people.owner)).status_code == 201
    refused = await _transfer(client, people, frozen["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "voucher_frozen")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"client_id": CLIENT}, 422, "client_id"),
        ({"client_id": OTHER_CLIENT}, 404, "client_not_found"),
        ({"client_id": FREE_CLIENT}, 404, "client_not_found"),
        ({"client_id": 987654}, 404, "client_not_found"),
        ({"sessions": 11}, 422, "sessions"),
        ({"sessions": 0}, 422, "sessions"),
        ({"reason": None}, 422, "reason"),
    ],
    ids=["own", "stranger", "free", "nobody", "too_many", "none", "no_reason"],
)
async def test_who_receives_and_how_many(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any], status: int, code: str
) -> None:
    voucher = await new_voucher(client, people)
    answer = await _transfer(client, people, voucher["id"], **changes)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert (body["errors"][0]["field"] if status == 422 else body["code"]) == code


async def test_an_inactive_client_receives_nothing(
    client: httpx.AsyncClient, people: People, identity: Identity
) -> None:
    voucher = await new_voucher(client, people)
    identity.users[SECOND_CLIENT]["is_active"] = False
    answer = await _transfer(client, people, voucher["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "client_inactive")


async def test_who_transfers(client: httpx.AsyncClient, people: People) -> None:
    voucher = await new_voucher(client, people)
    refusals = {"anonymous": 401, "client": 403, "staff": 403, "therapist": 403}
    for name, headers in people.all().items():
        body = {"client_id": SECOND_CLIENT, "sessions": 1}
        answer = await _post(client, headers, voucher["id"], "transfers", **body)
        expected = 201 if name in {"admin", "owner", "manager"} else refusals.get(name, 404)
        assert answer.status_code == expected, (name, answer.text)


async def test_a_repeated_request_transfers_once(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    headers = {**people.owner, "Idempotency-Key": f"transfer-{voucher['id']}"}
    body = {"client_id": SECOND_CLIENT, "sessions": 2}
    answers = [await _post(client, headers, voucher["id"], "transfers", **body) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert (await _shown(client, people.owner, voucher["id"]))["transferred_sessions"] == 2
    await _require_agreement(database)


async def test_the_last_session_is_transferred_or_used(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher_type = await new_type(client, people.owner, total_sessions=1, backup_sessions=0)
    for _ in range(4):
        voucher = (await buy(client, people.client, voucher_type["id"])).json()
        answers = await asyncio.gather(
            _transfer(client, people, voucher["id"]),
            redeem(client, people.therapist, voucher["id"]),
            _transfer(client, people, voucher["id"]),
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    await _require_agreement(database)


async def test_transferred_sessions_are_refunded_to_the_payer_after_their_return(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher = await new_voucher(client, people)
    received = await _received(client, people, voucher["id"], sessions=4)
    path = "/api/vouchers/{}/refund-quote"
    none = await client.post(path.format(received["id"]), headers=people.owner)
    assert (none.status_code, none.json()["code"]) == (409, "nothing_to_refund")
    quote = await client.post(path.format(voucher["id"]), headers=people.owner)
    assert (quote.json()["sessions"], quote.json()["amount"]) == (6, 239.99)
    await _post(client, people.owner, received["id"], "returns")
    quote = await client.post(path.format(voucher["id"]), headers=people.owner)
    assert (quote.json()["sessions"], quote.json()["amount"]) == (10, 399.99)


async def test_received_sessions_end_with_their_money(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    voucher = await new_voucher(client, people)
    received = await _received(client, people, voucher["id"], sessions=4)
    await deliver(transactions, refund(voucher["id"], "150.00"))
    assert (await _shown(client, people.owner, received["id"]))["status"] == "active"
    await deliver(transactions, refund(voucher["id"], "399.99", amount="249.99"))
    for voucher_id in (voucher["id"], received["id"]):
        shown = await _shown(client, people.owner, voucher_id)
        assert (shown["status"], shown["payment_status"]) == ("cancelled", "refunded")
    await _require_agreement(database)


@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_a_dispute_suspends_received_sessions_and_may_end_them(
    client: httpx.AsyncClient, people: People, transactions: Transactions, outcome: str
) -> None:
    voucher = await new_voucher(client, people)
    received = await _received(client, people, voucher["id"], sessions=4)
    await deliver(transactions, dispute("opened", voucher["id"], 1, "open"))
    refused = await redeem(client, people.therapist, received["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "voucher_disputed")
    again = await _transfer(client, people, voucher["id"])
    assert (again.status_code, again.json()["code"]) == (409, "voucher_disputed")
    await deliver(transactions, dispute("closed", voucher["id"], 1, outcome))
    answer = await redeem(client, people.therapist, received["id"])
    assert answer.status_code == (201 if outcome == "won" else 409)
    shown = await _shown(client, people.owner, received["id"])
    assert shown["status"] == ("active" if outcome == "won" else "cancelled")


async def test_an_expired_voucher_returns_its_sessions(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    received = await _received(client, people, voucher["id"], sessions=4)
    await expire(database, received)
    assert (await _post(client, people.owner, received["id"], "returns")).status_code == 201
    left = await _shown(client, people.owner, received["id"])
    assert (left["status"], left["regular_sessions_left"]) == ("expired", 0)
    await _require_agreement(database)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transfer_entries SET sessions = -1 WHERE sessions < 0",
        "DELETE FROM transfer_entries",
    ],
    ids=["update", "delete"],
)
async def test_the_service_cannot_rewrite_entries(
    client: httpx.AsyncClient, people: People, transactions: Transactions, statement: str
) -> None:
    await _received(client, people, (await new_voucher(client, people))["id"])
    with pytest.raises(ProgrammingError):
        async with transactions.system() as session:
            await session.execute(text(statement))


async def test_the_database_bounds_what_leaves_a_voucher(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    received = await _received(client, people, voucher["id"], sessions=4)
    async with database.admin() as admin:
        for change in ("transferred_sessions = 11", "transferred_sessions = -1"):
            with pytest.raises(asyncpg.CheckViolationError):
                await admin.execute(f"UPDATE vouchers SET {change} WHERE id = $1", voucher["id"])
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute(
                "UPDATE vouchers SET received_from_id = NULL WHERE id = $1", received["id"]
            )
