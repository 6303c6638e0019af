"""`shared.writes` and the ORM write the same row and the same event, for every audited model."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import ARRAY, Column, DateTime, Identity, MetaData, Table, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import create_async_engine

from shared.changes import Catalogue, record
from shared.context import Origin
from shared.db import Entity, make_engine
from shared.outbox import SharedBase
from shared.provisioning import provision
from shared.settings import asyncpg_url
from shared.tenancy import EVERYTHING
from shared.testing import PASSWORD, SERVICES, Database, new_database
from shared.transactions import Transactions
from shared.writes import Writes

pytestmark = pytest.mark.anyio

ACTIONS = ("CREATE", "UPDATE", "DELETE")
ORIGIN = Origin("request-1", user_id=5, role="staff", ip_address="192.0.2.7", user_agent="test")
OF_THE_MIXIN = ("id", "created_at", "updated_at", "version")
KINDS: dict[str, type[Any]] = {}
for service in SERVICES:
    module = import_module(f"services.{service}.models")
    KINDS |= {
        f"{service}.{name}": kind
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Entity) and kind is not Entity
    }
CATALOGUE: Catalogue = {
    (kind.entity_type, action): f"sample.{kind.entity_type}.{action.lower()}.v1"
    for kind in KINDS.values()
    for action in ACTIONS
}


@pytest.fixture(scope="session", name="session_database")
def database_without_constraints(test_process: int) -> Iterator[Database]:
    """A database with the audited tables of all services, without constraints and triggers."""
    with new_database(f"test_writes_{os.getpid()}_{test_process}") as admin_url:
        database = Database("sample", admin_url)
        asyncio.run(_prepare(database))
        yield database


async def _prepare(database: Database) -> None:
    await provision(database.admin_url, "sample", password=PASSWORD, owner_password=PASSWORD)
    tables = MetaData()
    for kind in KINDS.values():
        Table(kind.__tablename__, tables, *map(_bare, kind.__table__.columns))
    engine = create_async_engine(database.owner_url.get_secret_value())
    async with engine.begin() as connection:
        await connection.run_sync(SharedBase.metadata.create_all)
        await connection.run_sync(tables.create_all)
    await engine.dispose()


def _bare(column: Column[Any]) -> Column[Any]:
    """Return a column's copy with its type and the server's default, and nothing else."""
    # An id may be of another table's sequence, which does not exist here.
    is_generated = column.identity is not None or column.primary_key
    extras = [Identity(always=False)] if is_generated else []
    default = None if is_generated else column.server_default
    return Column(
        column.name,
        column.type,
        *extras,
        primary_key=column.primary_key,
        nullable=column.nullable,
        server_default=default.arg if default is not None else None,  # type: ignore[attr-defined]
    )


@pytest.fixture
async def transactions(database: Database) -> AsyncIterator[Transactions]:
    engine = make_engine(asyncpg_url(database.url))
    yield Transactions(engine, "carnet/sample", CATALOGUE)
    await engine.dispose()


def value_for(column: Column[Any], number: int) -> Any:
    """Return a value of the column's type, another one for each number."""
    kind = column.type.python_type
    zone = timezone(timedelta(hours=2 * number - 2))  # the first is UTC, as stored
    samples: dict[Any, Any] = {
        str: f'{column.name} {number} "zażółć" \\ \u2028 %s $1 \U0001f600',
        int: 10_000_000_000 + number,
        bool: bool(number % 2),
        Decimal: Decimal(f"{number}2.50"),
        date: date(2026, 2, number),
        datetime: datetime(2026, 2, number, 4, 5, 6, 789, tzinfo=zone),
        object: {"b": [number, None, {"ü": "é"}], "a": 1.5},
        list: [number, 2],
    }
    if isinstance(column.type, DateTime) and not column.type.timezone:
        return samples[kind].replace(tzinfo=None)
    if isinstance(column.type, ARRAY) and column.type.item_type.python_type is str:
        return [f"{column.name} {number}"]
    return samples[kind]


def values_of(kind: type[Any], number: int, *, required_only: bool = False) -> dict[str, Any]:
    """Return values for a model's own columns, or for those without which there is no row."""
    columns = [c for c in kind.__table__.columns if c.name not in OF_THE_MIXIN]
    if required_only:
        columns = [c for c in columns if not c.nullable and c.default is None]
    return {column.name: value_for(column, number) for column in columns}


def moments_of(kind: type[Any], given: Mapping[str, Any]) -> set[str]:
    """Return the columns whose value is the time of writing."""
    columns = kind.__table__.columns
    clocks = {
        c.name
        for c in columns
        if c.default is not None and c.default.is_callable and isinstance(c.type, DateTime)
    }
    return clocks - given.keys()


async def write_by_orm(
    transactions: Transactions, kind: type[Any], first: Any, second: Any, action: str
) -> int:
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        entity = kind(**first)
        session.add(entity)
        record(session, "CREATE", entity, why={"price": "1.00"})
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        entity = (await session.scalars(select(kind).where(kind.id == entity.id))).one()
        for name, value in second.items():
            setattr(entity, name, value)
        record(session, action, entity, why="changed")
    return int(entity.id)


async def write_by_writes(
    transactions: Transactions, kind: type[Any], first: Any, second: Any, action: str
) -> int:
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        row = writes.insert(kind, first, action="CREATE", details={"why": {"price": "1.00"}})
        await writes.send()
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        stored = await session.execute(select(kind.__table__).where(kind.id == row.id))
        writes = Writes(session)
        writes.change(
            kind, stored.mappings().one(), second, action=action, details={"why": "changed"}
        )
        await writes.send()
    return int(row.id)


def comparable_row(row: Mapping[str, Any], moments: set[str]) -> dict[str, Any]:
    """Return a stored row without its id and with only the presence of times of writing."""
    values = {name: value for name, value in row.items() if name != "id"}
    times = {name: type(values[name]) for name in moments | {"updated_at"}}
    return values | times


def comparable_event(event: dict[str, Any], id_: int, moments: set[str]) -> dict[str, Any]:
    """Return an event without what differs between any two events, its row's id replaced."""
    data = event["data"]
    assert data["entity_id"] == id_
    assert event["subject"] == f"{data['entity_type']}/{id_}"
    assert data["new_values"].get("id", id_) == data["old_values"].get("id", id_) == id_
    for values in (data["old_values"], data["new_values"]):
        for name in moments & values.keys():
            assert datetime.fromisoformat(values[name]).tzinfo is not None
    same = {"id": "", "time": "", "subject": ""}
    plain = {
        name: {**data[name], **dict.fromkeys(({"id"} | moments) & data[name].keys(), "")}
        for name in ("old_values", "new_values")
    }
    if data["organization_id"] == id_:
        plain["organization_id"] = {}
    return event | same | {"data": data | plain | {"entity_id": 0}}


NOTHING: dict[str, Any] = {}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("action", ["UPDATE", "DELETE"])
@pytest.mark.parametrize("case", ["all values", "defaults", "back to null", "no difference"])
async def test_rows_and_events_are_those_of_the_orm(
    database: Database, transactions: Transactions, name: str, action: str, case: str
) -> None:
    kind = KINDS[name]
    first = values_of(kind, 1, required_only=case == "defaults")
    second = values_of(kind, 2)
    if case == "back to null":
        nullable = [c.name for c in kind.__table__.columns if c.nullable]
        second = dict.fromkeys(nullable)
    if case == "no difference":
        second = dict(first)
    ids = [
        await write(transactions, kind, dict(first), dict(second), action)
        for write in (write_by_orm, write_by_writes)
    ]
    moments = moments_of(kind, first)
    table = kind.__tablename__
    by_orm, by_writes = [
        comparable_row(
            (await database.rows(f"SELECT * FROM {table} WHERE id = $1", id_))[0], moments
        )
        for id_ in ids
    ]
    assert by_writes == by_orm
    events = await database.events()
    orm_events = [comparable_event(event, ids[0], moments) for event in events[:2]]
    writes_events = [comparable_event(event, ids[1], moments) for event in events[2:]]
    assert writes_events == orm_events
    assert [list(event["data"]) for event in events[2:]] == [list(e["data"]) for e in events[:2]]


async def test_json_null_and_null_are_stored_as_the_orm_stores_them(
    database: Database, transactions: Transactions
) -> None:
    """A JSON column may hold a null of its own: which one it is depends on the column's type."""
    kinds = [
        (kind, column.name)
        for kind in KINDS.values()
        for column in kind.__table__.columns
        if isinstance(column.type, JSONB) and column.nullable
    ]
    assert kinds
    for kind, column in kinds:
        for given in ({column: None}, NOTHING):
            values = values_of(kind, 1, required_only=True) | given
            ids = [
                await write(transactions, kind, values, NOTHING, "UPDATE")
                for write in (write_by_orm, write_by_writes)
            ]
            query = f"SELECT {column}::text AS v FROM {kind.__tablename__} WHERE id = $1"
            by_orm, by_writes = [await database.rows(query, id_) for id_ in ids]
            assert by_writes == by_orm, (kind, column, given)


def test_every_audited_model_is_compared() -> None:
    def all_of(root: type[Any]) -> Iterator[type[Any]]:
        for kind in root.__subclasses__():
            if hasattr(kind, "__table__"):
                yield kind
            yield from all_of(kind)

    ours = {kind for kind in all_of(Entity) if kind.__module__.startswith("services.")}
    assert ours == set(KINDS.values())
    assert len(ours) >= 11
