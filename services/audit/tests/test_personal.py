"""Personal data are stored beside the trail, shown with it, and deleted with their user."""

import json
from typing import Any

import httpx
import pytest

from services.audit.evidence.personal import ERASED, MARK, Commitments
from services.audit.evidence.sealed_heads import Evidence
from services.audit.service.verification import verify_everything
from services.audit.tests.conftest import deliver, event, rows_of
from shared.events import Event
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

ANNA = {"name": "Anna Nowak", "email": "anna@example.org", "phone": "+48 600 100 200"}


def about_user(action: str, user_id: int | None = 42, **changes: Any) -> Event:
    return event(action, "user", 7, **{"entity_id": user_id, "old_values": {}, **changes})


async def shown(client: httpx.AsyncClient, tokens: Tokens) -> list[dict[str, Any]]:
    answer = await client.get("/api/admin/audit-logs", headers=tokens.bearer(1, "admin"))
    rows: list[dict[str, Any]] = answer.json()
    return rows


async def everything(database: Database) -> str:
    tables = ("audit_logs", "personal_values", "erasures", "inbox", "chain_heads")
    return str([await database.rows(f"SELECT * FROM {table}") for table in tables])


async def is_sound(transactions: Transactions) -> bool:
    async with transactions.system() as session:
        return all(report.valid for report in await verify_everything(session, Evidence()))


async def test_rows_commit_to_personal_data_and_readers_see_them(
    client: httpx.AsyncClient, transactions: Transactions, tokens: Tokens, database: Database
) -> None:
    values = {**ANNA, "role": "client", "is_active": True}
    await deliver(transactions, about_user("CREATE", new_values=values))
    [row] = await rows_of(database)
    stored = json.loads(row["new_values"])
    assert "Anna" not in str(row)
    assert stored["role"] == "client"
    assert stored["name"].keys() == {MARK}
    [told] = await shown(client, tokens)
    assert told["new_values"] == values


async def test_erasing_a_user_takes_every_trace_and_breaks_no_chain(
    client: httpx.AsyncClient, transactions: Transactions, tokens: Tokens, database: Database
) -> None:
    buyer = {"name": ANNA["name"], "email": ANNA["email"]}
    await deliver(
        transactions,
        about_user("CREATE", new_values=dict(ANNA)),
        about_user("UPDATE", old_values={"name": "Anna Kowalska"}, new_values={"name": "x"}),
        event("PURCHASE", "voucher", 7, new_values={"client_id": 42, "buyer": buyer}),
        about_user("LOGIN_FAILED", None, new_values={"email": ANNA["email"]}),
        event("UPDATE", "voucher", 7, new_values={"client_name": "Anna Nowak", "client_id": 42}),
        about_user("CREATE", 43, new_values={"name": "Bob", "email": "bob@example.org"}),
    )
    before = await rows_of(database)
    await deliver(transactions, about_user("DELETE", old_values=dict(ANNA), new_values={}))
    # What was late, or is replayed from a dead-letter queue, brings nothing back.
    await deliver(transactions, about_user("APPROVE", new_values={"name": ANNA["name"]}))
    kept = await everything(database)
    for trace in ("Anna", "Nowak", "Kowalska", "anna@", "600 100"):
        assert trace not in kept
    assert (await rows_of(database))[: len(before)] == before, "no row of the trail was touched"
    assert await is_sound(transactions)
    told = await shown(client, tokens)
    assert told[-1]["new_values"] == dict.fromkeys(ANNA, ERASED)
    assert told[-3]["new_values"] == {"client_id": 42, "buyer": {"name": ERASED, "email": ERASED}}
    assert told[-4]["new_values"] == {"email": ERASED}
    assert told[-6]["new_values"] == {"name": "Bob", "email": "bob@example.org"}


async def test_what_was_written_about_a_client_goes_with_them(
    client: httpx.AsyncClient, transactions: Transactions, tokens: Tokens, database: Database
) -> None:
    said = {"client_id": 42, "reason": "Anna Nowak in hospital"}
    bought = {"client_id": 42, "notes": "call Anna", "status": "pending"}
    await deliver(
        transactions,
        event("PURCHASE", "voucher", 7, new_values=bought),
        event("FREEZE", "voucher", 7, new_values=said),
        event("CREATE", "refund", 7, new_values=said),
        event("QUARANTINE", "payment_transaction", 7, new_values={**said, "reason": "amount"}),
        event("CANCEL", "voucher", 7, new_values={"client_id": None, "reason": "unpaid"}),
    )
    assert "Anna" not in str(await rows_of(database))
    told = [row["new_values"] for row in await shown(client, tokens)][::-1]
    assert told[:3] == [bought, said, said]
    await deliver(transactions, about_user("DELETE", old_values=dict(ANNA), new_values={}))
    assert "Anna" not in await everything(database)
    assert await is_sound(transactions)
    told = [row["new_values"] for row in await shown(client, tokens)][::-1]
    assert told[0] == {**bought, "notes": ERASED}
    assert told[1:3] == [{"client_id": 42, "reason": ERASED}] * 2
    assert told[3]["reason"] == "amount", "our own words about money stay"
    assert told[4]["reason"] == "unpaid"


async def test_a_dependant_is_erased_like_a_user(
    client: httpx.AsyncClient, transactions: Transactions, tokens: Tokens, database: Database
) -> None:
    child = {"entity_id": 44, "old_values": {}}
    born = {"name": "Zofia Nowak", "guardian_id": 42, "organization_id": 7}
    reason = {"client_id": 44, "reason": "Zofia is ill"}
    await deliver(
        transactions,
        event("CREATE", "dependant", 7, **child, new_values=born),
        event("FREEZE", "voucher", 7, new_values=reason),
    )
    assert "Zofia" not in str(await rows_of(database))
    gone = {"entity_id": 44, "old_values": born, "new_values": {"name": "Deleted client 44"}}
    await deliver(transactions, event("DELETE", "dependant", 7, **gone))
    assert "Zofia" not in await everything(database)
    assert await is_sound(transactions)
    told = [row["new_values"] for row in await shown(client, tokens)][::-1]
    assert told[0] == {**born, "name": ERASED}
    assert told[1] == {**reason, "reason": ERASED}


def test_a_buyer_is_the_guardian_of_the_client() -> None:
    row: dict[str, Any] = {
        "entity_type": "voucher",
        "entity_id": 9,
        "organization_id": 7,
        "event_id": "e",
        "old_values": {},
        "new_values": {"client_id": 61, "payer_id": 21, "buyer": {"name": "B"}, "notes": "N"},
    }
    commitments = Commitments()
    commitments.withhold(row)
    subjects = {(made["value"], made["subject_id"]) for made in commitments.rows}
    assert subjects == {('"B"', 21), ('"N"', 61)}


async def test_a_commitment_cannot_be_guessed_or_forged(
    client: httpx.AsyncClient, transactions: Transactions, tokens: Tokens, database: Database
) -> None:
    await deliver(transactions, *(about_user("CREATE", n, new_values=dict(ANNA)) for n in (1, 2)))
    marks = await database.rows("SELECT commitment FROM personal_values WHERE field = 'name'")
    assert marks[0]["commitment"] != marks[1]["commitment"], "the salt is each value's own"
    forged = {"note": {MARK: marks[0]["commitment"].hex()}, "list": [{MARK: "00" * 32}]}
    await deliver(transactions, event(new_values=forged))
    told = await shown(client, tokens)
    assert "Anna" not in str(told[0])
    assert told[0]["new_values"]["note"] == {f"${MARK}": marks[0]["commitment"].hex()}
    assert await is_sound(transactions)


def test_whose_a_value_is() -> None:
    row: dict[str, Any] = {
        "entity_type": "payment_transaction",
        "entity_id": 9,
        "organization_id": 7,
        "event_id": "e",
        "old_values": {},
        "new_values": {
            "client_id": 5,
            "name": "not a person",
            "buyer": {"name": "B"},
            "owner": {"id": 6, "name": "O"},
            "seller": {"name": "Praxis", "email": "praxis@example.org"},
            "therapist_name": "T",
            "therapist_id": 8,
            "lines": [{"buyer": {"email": "b@example.org"}}],
            "user": None,
        },
    }
    commitments = Commitments()
    commitments.withhold(row)
    found = {(made["value"], made["subject_id"]) for made in commitments.rows}
    assert found == {('"B"', 5), ('"O"', 6), ('"T"', 8), ('"b@example.org"', 5)}
    assert row["new_values"]["seller"] == {"name": "Praxis", "email": "praxis@example.org"}


async def test_a_refusal_is_shown_as_it_was_published(
    client: httpx.AsyncClient, tokens: Tokens, transactions: Transactions, database: Database
) -> None:
    values = {
        "method": "DELETE",
        "route": "/api/organizations/{organization_id}/users/{user_id}",
        "refusal": "forbidden",
        "reason": "Not authorized. You cannot change a user who holds rights that you do not hold.",
        "count": 3,
        "first_at": "2026-11-30T12:00:30+00:00",
        "last_at": "2026-11-30T12:00:40+00:00",
        "path_ids": {"organization_id": 7, "user_id": 42},
        "user_id": None,
        "others": False,
    }
    denied = {"entity_id": None, "entity_version": 0, "old_values": {}, "new_values": values}
    await deliver(transactions, event("DENIED", "request", 7, **denied))
    [row] = await shown(client, tokens)
    assert (row["action"], row["entity_type"], row["entity_id"]) == ("DENIED", "request", None)
    assert (row["user_id"], row["organization_id"]) == (5, 7)
    assert row["new_values"] == values, "nothing in it is a person's"
    assert await database.rows("SELECT * FROM personal_values") == []
    assert await is_sound(transactions)
