"""The statements of a purchase: each one costs a round trip to the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from services.vouchers.tests.people import People, buy, new_type

pytestmark = pytest.mark.anyio

# The rows that a transaction may see are set together with its BEGIN: a member sees all rows of a
# purchase for itself.
PENDING = ["SELECT voucher_types", "INSERT vouchers"]
SETTLED = ["UPDATE vouchers", "INSERT voucher_codes"]
EVENT = "INSERT outbox"


@contextmanager
def statements_of(app: FastAPI) -> Iterator[list[str]]:
    """Yield a list that grows by what each statement does, and to which table first."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(_summary(statement))

    engine = app.state.transactions.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _summary(statement: str) -> str:
    words = statement.replace("(", " ").replace(".", " ").split()
    verb = next(word for word in words if word in ("INSERT", "UPDATE", "SELECT"))
    marker = {"INSERT": "INTO", "UPDATE": "UPDATE", "SELECT": "SELECT"}[verb]
    return f"{verb} {words[words.index(marker) + 1]}"


async def test_a_purchase_sends_no_statement_twice(
    app: FastAPI, client: httpx.AsyncClient, people: People
) -> None:
    kind = await new_type(client, people.owner)
    await buy(client, people.client, kind["id"])
    with statements_of(app) as statements:
        assert (await buy(client, people.client, kind["id"])).status_code == 201
    assert statements == [*PENDING, EVENT, *SETTLED, EVENT]


async def test_a_new_key_costs_three_statements(
    app: FastAPI, client: httpx.AsyncClient, people: People
) -> None:
    kind = await new_type(client, people.owner)
    await buy(client, people.client, kind["id"])
    headers = {**people.client, "Idempotency-Key": "6f1f7f5e-5a0f-4d9b-9d53-0b4b2c1f2c11"}
    with statements_of(app) as statements:
        assert (await buy(client, headers, kind["id"])).status_code == 201
    assert statements == [
        "INSERT idempotency_keys",
        *PENDING,
        "UPDATE idempotency_keys",
        EVENT,
        *SETTLED,
        "UPDATE idempotency_keys",
        EVENT,
    ]
