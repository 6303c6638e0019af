"""`record` and its guard: every change one event, with what was before and what is since."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from shared.changes import UnrecordedChange, act_as, consequence_of, record, record_fact
from shared.tenancy import EVERYTHING
from shared.testing import Database
from shared.tests.conftest import ORIGIN
from shared.tests.sample import Thing
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


def thing(name: str = "first", **values: Any) -> Thing:
    return Thing(**{"name": name, "price": Decimal("399.99"), "organization_id": 7, **values})


@asynccontextmanager
async def changing(transactions: Transactions) -> AsyncIterator[tuple[AsyncSession, Thing]]:
    """Yield a thing that existed before this transaction."""
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        made = thing()
        session.add(made)
        record(session, "CREATE", made)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        yield session, (await session.scalars(select(Thing))).one()


async def told(database: Database) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return what the events after the creation contain."""
    data = [event["data"] for event in await database.events()]
    return [(d["action"], d["old_values"], d["new_values"]) for d in data][1:]


async def test_a_new_row_is_published_whole_except_for_secrets(
    database: Database, transactions: Transactions
) -> None:
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        made = thing(password_hash="canary-4711", details={"days": [1]})
        session.add(made)
        record(session, "CREATE", made, reason="opening")
    [event] = await database.events()
    assert event["type"] == "sample.thing.created.v1"
    assert event["source"] == "carnet/sample"
    assert event["subject"] == f"thing/{made.id}"
    assert event["data"]["old_values"] == {}
    assert event["data"]["new_values"] == {
        "id": made.id,
        "organization_id": 7,
        "name": "first",
        "price": "399.99",
        "note": None,
        "state": "open",
        "details": {"days": [1]},
        "reason": "opening",
    }
    assert event["data"]["actor"] == {
        "user_id": 5,
        "role": "staff",
        "ip_address": "192.0.2.7",
        "user_agent": "test",
    }
    assert event["data"]["correlation_id"] == "request-1"
    assert event["data"]["entity_version"] == 1
    assert "canary" not in str(await database.rows("SELECT * FROM outbox"))


async def test_an_update_publishes_only_what_changed(
    database: Database, transactions: Transactions
) -> None:
    async with changing(transactions) as (session, made):
        made.price, made.note, made.name = Decimal("400"), "dearer", "first"
        made.password_hash = "canary-4711"
        record(session, "UPDATE", made)
    assert await told(database) == [
        ("UPDATE", {"price": "399.99", "note": None}, {"price": "400", "note": "dearer"})
    ]


async def test_a_flush_between_change_and_record_forgets_nothing(
    database: Database, transactions: Transactions
) -> None:
    async with changing(transactions) as (session, made):
        made.price = Decimal("1.00")
        await session.execute(select(Thing))
        made.price = Decimal("2.00")
        await session.flush()
        made.note = "x"
        record(session, "UPDATE", made)
    assert await told(database) == [
        ("UPDATE", {"price": "399.99", "note": None}, {"price": "2.00", "note": "x"})
    ]


async def test_two_records_of_one_row_publish_each_its_own_part(
    database: Database, transactions: Transactions
) -> None:
    async with changing(transactions) as (session, made):
        made.note = "closing"
        record(session, "UPDATE", made)
        made.state = "closed"
        record(session, "CLOSE", made)
    assert await told(database) == [
        ("UPDATE", {"note": None}, {"note": "closing"}),
        ("CLOSE", {"state": "open"}, {"state": "closed"}),
    ]


@pytest.mark.parametrize("flush", [False, True])
async def test_a_new_row_that_changes_at_once_is_published_in_two_parts(
    database: Database, transactions: Transactions, flush: bool
) -> None:
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        made = thing()
        session.add(made)
        record(session, "CREATE", made)
        if flush:
            await session.flush()
        made.state, made.note = "closed", "at once"
        record(session, "CLOSE", made)
    created, closed = [event["data"] for event in await database.events()]
    assert created["new_values"]["state"] == "open"
    assert created["new_values"]["note"] is None
    assert created["new_values"]["id"] == made.id
    assert closed["old_values"] == {"state": "open", "note": None}
    assert closed["new_values"] == {"state": "closed", "note": "at once"}


async def test_details_of_a_new_row_are_no_columns_of_its_next_change(
    database: Database, transactions: Transactions
) -> None:
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        made = thing()
        session.add(made)
        await session.flush()
        record(session, "CREATE", made, reason="opening")
        made.name = "second"
        record(session, "UPDATE", made, reason="a better name")
    assert await told(database) == [
        ("UPDATE", {"name": "first"}, {"name": "second", "reason": "a better name"})
    ]


async def test_a_deleted_row_is_published_whole(
    database: Database, transactions: Transactions
) -> None:
    async with changing(transactions) as (session, made):
        await session.delete(made)
        record(session, "DELETE", made)
    [(action, old, new)] = await told(database)
    assert (action, new) == ("DELETE", {})
    assert old["name"] == "first"
    assert old["price"] == "399.99"
    assert await database.rows("SELECT * FROM things") == []


async def test_an_unrecorded_change_is_refused(
    database: Database, transactions: Transactions
) -> None:
    with pytest.raises(UnrecordedChange, match="price"):
        async with changing(transactions) as (session, made):
            made.price = Decimal("1.00")
            await session.flush()
    with pytest.raises(UnrecordedChange, match="thing"):
        async with transactions.begin(ORIGIN, EVERYTHING) as session:
            session.add(thing("second"))
    with pytest.raises(UnrecordedChange, match="thing"):
        async with transactions.begin(ORIGIN, EVERYTHING) as session:
            await session.delete((await session.scalars(select(Thing))).one())
    [row] = await database.rows("SELECT * FROM things")
    assert (row["name"], row["price"]) == ("first", Decimal("399.99"))


async def test_a_change_after_the_record_is_refused(
    database: Database, transactions: Transactions
) -> None:
    with pytest.raises(UnrecordedChange, match="note"):
        async with changing(transactions) as (session, made):
            made.price = Decimal("1.00")
            record(session, "UPDATE", made)
            made.note = "afterwards"


async def test_a_change_that_was_taken_back_needs_no_record(
    database: Database, transactions: Transactions
) -> None:
    async with changing(transactions) as (session, made):
        made.note = "x"
        await session.flush()
        made.note = None
    assert await told(database) == []


@pytest.mark.parametrize(
    "statement",
    [
        update(Thing).values(note="x"),
        delete(Thing),
        insert(Thing).values(name="b", price=1, created_at=text("now()")),
        update(Thing.__table__).values(note="x"),  # type: ignore[arg-type]
    ],
    ids=["update", "delete", "insert", "update of the table"],
)
async def test_changes_in_bulk_are_refused(
    database: Database, transactions: Transactions, statement: Any
) -> None:
    with pytest.raises(UnrecordedChange, match="in bulk"):
        async with changing(transactions) as (session, _made):
            await session.execute(statement)
    [row] = await database.rows("SELECT * FROM things")
    assert row["note"] is None


async def test_what_a_savepoint_rolled_back_is_not_published(
    database: Database, transactions: Transactions
) -> None:
    async with changing(transactions) as (session, made):
        made.note = "kept"
        record(session, "UPDATE", made)
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                double = thing("first")
                session.add(double)
                record(session, "CREATE", double)
                await session.flush()
        with pytest.raises(RuntimeError, match="never mind"):
            async with session.begin_nested():
                made.state = "closed"
                record(session, "CLOSE", made)
                await session.flush()
                raise RuntimeError("never mind")
        async with session.begin_nested():
            second = thing("second")
            session.add(second)
            record(session, "CREATE", second)
    actions = [(action, new.get("name")) for action, _, new in await told(database)]
    assert actions == [("UPDATE", None), ("CREATE", "second")]
    [row] = await database.rows("SELECT * FROM things WHERE name = 'first'")
    assert (row["note"], row["state"]) == ("kept", "open")


async def test_only_what_is_in_the_catalogue_is_recorded(transactions: Transactions) -> None:
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        with pytest.raises(KeyError, match="EXPLODE"):
            record(session, "EXPLODE", thing())
        with pytest.raises(KeyError, match="sign_in"):
            record_fact(session, "LOGIN", "sign_in", details={})


async def test_a_fact_changes_no_row_and_the_actor_may_become_known(
    database: Database, transactions: Transactions
) -> None:
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        record_fact(session, "CLOSE", "thing", details={"why": "nobody knows"})
        act_as(session, 9, "admin")
        record_fact(session, "CLOSE", "thing", entity_id=3, organization_id=7, details={})
    first, second = [event["data"] for event in await database.events()]
    assert (first["entity_id"], first["entity_version"]) == (None, 0)
    assert first["new_values"] == {"why": "nobody knows"}
    assert (first["actor"]["user_id"], second["actor"]["user_id"]) == (5, 9)
    assert second["actor"]["ip_address"] == "192.0.2.7"


async def test_a_failed_transaction_publishes_nothing(
    database: Database, transactions: Transactions
) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        async with transactions.begin(ORIGIN, EVERYTHING) as session:
            made = thing()
            session.add(made)
            record(session, "CREATE", made)
            await session.flush()
            raise RuntimeError("stop")
    assert await database.events() == []
    assert await database.rows("SELECT * FROM things") == []


async def test_a_consequence_is_the_systems_and_names_its_cause(
    database: Database, transactions: Transactions
) -> None:
    async with changing(transactions) as (session, made):
        made.note = "cause"
        record(session, "UPDATE", made)
        with consequence_of(session, made):
            made.state = "closed"
            record(session, "CLOSE", made)
        made.note = "after"
        record(session, "UPDATE", made)
    cause, consequence, after = (await database.events())[1:]
    data = consequence["data"]
    assert data["causation_id"] == cause["id"]
    assert data["correlation_id"] == cause["data"]["correlation_id"] == "request-1"
    assert (data["actor"]["role"], data["actor"]["user_id"]) == ("system", None)
    assert (after["data"]["actor"]["user_id"], after["data"]["causation_id"]) == (5, None)
