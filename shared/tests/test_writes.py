"""`Writes`: rows and events in one statement, with the guarantees of the ORM and of `record`."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from shared.changes import UnrecordedChange, record
from shared.connections import fetch
from shared.db import now
from shared.idempotency import IdempotencyRecord
from shared.inbox import InboxMessage
from shared.outages import is_outage
from shared.tenancy import EVERYTHING, Tenant
from shared.testing import Database
from shared.tests.conftest import ORIGIN
from shared.tests.sample import Thing
from shared.transactions import Transactions
from shared.writes import Writes

pytestmark = pytest.mark.anyio

KEY = {"caller": "user/1", "route": "/api/things", "key": "k", "fingerprint": "f"}


def values(name: str = "first", **others: Any) -> dict[str, Any]:
    return {"name": name, "price": Decimal("399.99"), "organization_id": 7, **others}


async def stored(transactions: Transactions, **others: Any) -> Mapping[str, Any]:
    """Return the values of a thing that a transaction before has committed."""
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        row = writes.insert(Thing, values(**others), action="CREATE")
        await writes.send()
    return row.values


async def data_of_events(database: Database) -> list[dict[str, Any]]:
    return [event["data"] for event in await database.events()]


async def test_a_row_its_children_and_its_event_are_one_statement(
    database: Database, transactions: Transactions
) -> None:
    statements: list[str] = []

    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        connection = await (await session.connection()).get_raw_connection()
        driver = connection.driver_connection
        assert driver is not None
        with driver.query_logger(lambda query: statements.append(query.query)):
            writes = Writes(session)
            row = writes.insert(Thing, values(), action="CREATE", details={"why": "test"})
            keys = writes.insert_many(
                IdempotencyRecord,
                [KEY | {"key": key, "resource_id": row.id} for key in "ab"],
                returning=("key", "resource_id"),
            )
            await writes.send()
    assert len([query for query in statements if "INSERT" in query]) == 1
    assert keys.rows == [{"key": key, "resource_id": row.id} for key in "ab"]
    [event] = await database.events()
    assert event["subject"] == f"thing/{row.id}"
    assert event["data"]["entity_id"] == event["data"]["new_values"]["id"] == row.id
    assert event["data"]["new_values"]["why"] == "test"


async def test_ids_of_new_rows_are_in_each_others_events(
    database: Database, transactions: Transactions
) -> None:
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        first = writes.insert(Thing, values("first"), action="CREATE")
        second = writes.insert(
            Thing,
            values("second", organization_id=first.id),
            action="CREATE",
            details={"before": {"id": first.id}},
        )
        await writes.send()
    assert first.id > 0
    one, two = await data_of_events(database)
    assert (one["entity_id"], two["entity_id"]) == (first.id, second.id)
    assert two["organization_id"] == two["new_values"]["organization_id"] == first.id
    assert two["new_values"]["before"] == {"id": first.id}
    [_, row] = await database.rows("SELECT * FROM things ORDER BY id")
    assert row["organization_id"] == second["organization_id"] == first.id


async def test_events_are_in_the_order_of_the_calls(
    database: Database, transactions: Transactions
) -> None:
    old = await stored(transactions)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        writes.insert(Thing, values("b"), action="CREATE")
        writes.change(Thing, old, {"note": "x"}, action="CLOSE")
        writes.insert(Thing, values("c"), action="CREATE")
        await writes.send()
    actions = [(d["action"], d["new_values"].get("name")) for d in await data_of_events(database)]
    assert actions[1:] == [("CREATE", "b"), ("CLOSE", None), ("CREATE", "c")]


async def test_a_change_is_published_and_returned_with_its_version(
    database: Database, transactions: Transactions
) -> None:
    old = await stored(transactions)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        row = writes.change(
            Thing, old, {"note": "x", "name": "first", "password_hash": "s"}, action="UPDATE"
        )
        await writes.send()
    assert row["version"] == 2
    data = (await data_of_events(database))[-1]
    assert (data["old_values"], data["new_values"]) == ({"note": None}, {"note": "x"})
    assert (data["entity_version"], data["organization_id"]) == (2, 7)
    [after] = await database.rows("SELECT * FROM things")
    assert {**row.values, "details": None} == {**after, "details": None}
    assert after["updated_at"] > old["updated_at"]


async def test_a_change_without_a_difference_is_an_event_only(
    database: Database, transactions: Transactions
) -> None:
    old = await stored(transactions)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        writes.change(Thing, old, {"note": None}, action="CLOSE")
        await writes.send()
    data = (await data_of_events(database))[-1]
    assert (data["action"], data["new_values"], data["entity_version"]) == ("CLOSE", {}, 1)
    assert (await database.rows("SELECT version FROM things")) == [{"version": 1}]


async def test_only_bookkeeping_changes_without_an_action(
    database: Database, transactions: Transactions
) -> None:
    old = await stored(transactions)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        with pytest.raises(UnrecordedChange, match="note"):
            writes.change(Thing, old, {"note": "x"}, action=None)
        writes.change(Thing, old, {"name": old["name"]}, action=None)
        await writes.send()
        row = writes.change(Thing, old, {"password_hash": "s"}, action=None)
        await writes.send()
    assert len(await database.events()) == 1
    [after] = await database.rows("SELECT version, password_hash FROM things")
    assert after == {"version": 2, "password_hash": "s"}
    assert row["version"] == 2


@pytest.mark.parametrize("caught", [False, True])
async def test_a_stale_version_refuses_the_whole_transaction(
    database: Database, transactions: Transactions, caught: bool
) -> None:
    old = await stored(transactions)
    with pytest.raises(StaleDataError):
        async with transactions.begin(ORIGIN, EVERYTHING) as session:
            writes = Writes(session)
            writes.insert(Thing, values("second"), action="CREATE")
            writes.change(Thing, {**old, "version": 5}, {"note": "x"}, action="UPDATE")
            with suppress(*[StaleDataError] * caught):
                await writes.send()
    assert len(await database.events()) == 1
    assert len(await database.rows("SELECT * FROM things")) == 1


async def test_a_violated_constraint_is_the_error_of_the_orm(
    database: Database, transactions: Transactions
) -> None:
    await stored(transactions)
    errors = []
    for way in ("writes", "orm"):
        with pytest.raises(IntegrityError) as raised:
            async with transactions.begin(ORIGIN, EVERYTHING) as session:
                if way == "orm":
                    session.add(Thing(**values()))
                    await session.flush()
                writes = Writes(session)
                writes.insert(Thing, values(), action="CREATE")
                await writes.send()
        errors.append(raised.value)
    ours, theirs = errors
    assert str(ours.orig) == str(theirs.orig)
    assert type(ours.orig) is type(theirs.orig)
    assert "uq_things_name" in str(ours.orig)
    assert "399.99" not in str(ours)
    assert not is_outage(ours)
    assert len(await database.events()) == 1


async def test_an_ended_connection_is_an_outage_and_is_replaced(
    database: Database, transactions: Transactions
) -> None:
    with pytest.raises(DBAPIError) as raised:
        async with transactions.begin(ORIGIN, EVERYTHING) as session:
            [row] = await fetch(session, "SELECT pg_backend_pid() AS pid")
            await database.rows("SELECT pg_terminate_backend($1)", row["pid"])
            await fetch(session, "SELECT 1")
    assert is_outage(raised.value)
    await stored(transactions)
    assert len(await database.events()) == 1


async def test_another_tenants_rows_are_neither_written_nor_found(
    database: Database, transactions: Transactions
) -> None:
    old = await stored(transactions)
    with pytest.raises(StaleDataError):
        async with transactions.begin(ORIGIN, Tenant(8)) as session:
            writes = Writes(session)
            writes.change(Thing, old, {"note": "x"}, action="UPDATE")
            await writes.send()
    with pytest.raises(DBAPIError, match="row-level security"):
        async with transactions.begin(ORIGIN, Tenant(8)) as session:
            writes = Writes(session)
            writes.insert(Thing, values("second"), action="CREATE")
            await writes.send()
    async with transactions.begin(ORIGIN, Tenant(7)) as session:
        writes = Writes(session)
        writes.change(Thing, old, {"note": "ours"}, action="UPDATE")
        await writes.send()
    [row] = await database.rows("SELECT note FROM things")
    assert row["note"] == "ours"
    assert len(await database.events()) == 2


async def test_what_a_savepoint_rolled_back_is_not_written(
    database: Database, transactions: Transactions
) -> None:
    old = await stored(transactions)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        writes.insert(Thing, values("before"), action="CREATE")
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                writes.insert(Thing, values("first"), action="CREATE")
                await writes.send()
        with pytest.raises(StaleDataError):
            async with session.begin_nested():
                writes.change(Thing, {**old, "version": 9}, {"note": "x"}, action="UPDATE")
                await writes.send()
        with pytest.raises(RuntimeError, match="never mind"):
            async with session.begin_nested():
                writes.insert(Thing, values("unsent"), action="CREATE")
                raise RuntimeError("never mind")
        async with session.begin_nested():
            writes.insert(Thing, values("inside"), action="CREATE")
            await writes.send()
    names = [d["new_values"]["name"] for d in await data_of_events(database)]
    assert names == ["first", "before", "inside"]
    rows = await database.rows("SELECT name FROM things ORDER BY id")
    assert [row["name"] for row in rows] == names


async def test_unsent_writes_do_not_commit(database: Database, transactions: Transactions) -> None:
    with pytest.raises(UnrecordedChange, match="1 writes were not sent"):
        async with transactions.begin(ORIGIN, EVERYTHING) as session:
            Writes(session).insert(Thing, values(), action="CREATE")
    with pytest.raises(RuntimeError, match="stop"):
        async with transactions.begin(ORIGIN, EVERYTHING) as session:
            writes = Writes(session)
            writes.insert(Thing, values(), action="CREATE")
            await writes.send()
            raise RuntimeError("stop")
    assert await database.events() == []
    assert await database.rows("SELECT * FROM things") == []


async def test_both_ways_share_a_transaction(
    database: Database, transactions: Transactions
) -> None:
    old = await stored(transactions)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        loaded = await session.get_one(Thing, old["id"])
        added = Thing(**values("by the session"))
        session.add(added)
        record(session, "CREATE", added)
        writes = Writes(session)
        writes.change(Thing, old, {"note": "x"}, action="UPDATE")
        await writes.send()
        assert added.id is not None, "the session is flushed first"
        await session.refresh(loaded)
        assert (loaded.note, loaded.version) == ("x", 2)
        loaded.state = "closed"
        record(session, "CLOSE", loaded)
    events = [(d["action"], d["entity_version"]) for d in await data_of_events(database)]
    assert events == [("CREATE", 1), ("UPDATE", 2), ("CREATE", 1), ("CLOSE", 3)]


async def test_a_loaded_row_is_not_stale_silently(
    database: Database, transactions: Transactions
) -> None:
    old = await stored(transactions)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        loaded = await session.get_one(Thing, old["id"])
        writes = Writes(session)
        writes.change(Thing, old, {"note": "x"}, action="UPDATE")
        await writes.send()
        # Not from the session's memory: a query reads it again.
        assert (await session.scalars(select(Thing))).one().note == "x"
        assert loaded.version == 2


async def test_a_row_that_the_session_changed_is_refused(transactions: Transactions) -> None:
    old = await stored(transactions)
    with pytest.raises(RuntimeError, match="changed through the session"):
        async with transactions.begin(ORIGIN, EVERYTHING) as session:
            loaded = await session.get_one(Thing, old["id"])
            loaded.note = "x"
            record(session, "UPDATE", loaded)
            writes = Writes(session)
            writes.change(Thing, old, {"state": "closed"}, action="CLOSE")
            await writes.send()


async def test_audited_rows_need_a_published_action(transactions: Transactions) -> None:
    old = await stored(transactions)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        with pytest.raises(KeyError, match="EXPLODE"):
            writes.insert(Thing, values("x"), action="EXPLODE")
        with pytest.raises(KeyError, match="EXPLODE"):
            writes.change(Thing, old, {"note": "x"}, action="EXPLODE")
        with pytest.raises(TypeError, match="is audited"):
            writes.insert_many(Thing, [values("x")])
        with pytest.raises(TypeError, match="is audited"):
            writes.update(Thing, {"note": "x"}, where={"id": 1})
        with pytest.raises(TypeError, match="not audited"):
            writes.insert(InboxMessage, {}, action="CREATE")  # type: ignore[arg-type]


async def test_mistakes_are_refused_before_a_statement(transactions: Transactions) -> None:
    old = await stored(transactions)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        with pytest.raises(TypeError, match="no column nmae"):
            writes.insert(Thing, {"nmae": "x"}, action="CREATE")
        with pytest.raises(KeyError, match="organization_id"):
            writes.change(
                Thing, {"id": 1, "version": 1, "note": None}, {"note": "x"}, action="UPDATE"
            )
        with pytest.raises(KeyError, match="note"):
            writes.change(Thing, {"id": 1, "version": 1}, {"note": "x"}, action="UPDATE")
        writes.change(Thing, old, {"note": "x"}, action="UPDATE")
        with pytest.raises(ValueError, match="unsent write"):
            writes.change(Thing, old, {"state": "y"}, action="UPDATE")
        await writes.send()


async def test_rows_without_events_are_inserted_and_changed_by_their_columns(
    database: Database, transactions: Transactions
) -> None:
    leased_until = now() + timedelta(seconds=45)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        rows = [KEY | {"key": key, "leased_until": leased_until} for key in "abc"]
        first = writes.insert_many(IdempotencyRecord, rows)
        await writes.send()
        again = writes.insert_many(
            IdempotencyRecord,
            [KEY | {"key": key} for key in "cd"],
            returning=("key",),
            skip_existing=True,
        )
        await writes.send()
        mine = writes.update(
            IdempotencyRecord,
            {"status": 201, "body": b"{}", "headers": {"a": "b"}, "leased_until": None},
            where={"key": "a", "leased_until": leased_until},
        )
        foreign = writes.update(
            IdempotencyRecord, {"status": 500}, where={"key": "b", "leased_until": None}
        )
        await writes.send()
    assert (first.count, again.count, again.rows) == (3, 1, [{"key": "d"}])
    assert (mine.count, foreign.count) == (1, 0)
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        keys = await session.scalars(select(IdempotencyRecord).order_by(IdempotencyRecord.key))
        found = [(k.key, k.status, k.body, k.headers) for k in keys]
    assert found[0] == ("a", 201, b"{}", {"a": "b"})
    assert [row[:2] for row in found[1:]] == [("b", None), ("c", None), ("d", None)]
    assert await database.events() == []
