"""A reader sees its tenant's rows only, in one statement, and fails as a session does."""

import asyncio

import asyncpg
import pytest
from pydantic import BaseModel
from sqlalchemy import BigInteger, Text, bindparam, cast, func, literal, select
from sqlalchemy.exc import DBAPIError

from shared.outages import is_outage
from shared.reads import FactsQuery, JsonQuery, Reader
from shared.tenancy import EVERYTHING, NOTHING, Tenant, all_tenants
from shared.testing import Database, until
from shared.tests.sample import Thing
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


class ThingName(BaseModel):
    name: str


class Setting(BaseModel):
    value: str | None


THINGS = JsonQuery(
    ThingName,
    select().select_from(Thing),
    dict(Thing.__table__.columns),
    filters={"name": Thing.name == bindparam("name")},
    facts={"organization_id": Thing.organization_id},
    order=(Thing.id,),
)
FACTS = FactsQuery(
    select().where(Thing.name == bindparam("name")), {"organization_id": Thing.organization_id}
)
SCOPE = JsonQuery(Setting, select(), {"value": func.current_setting("carnet.scope", True)})


@pytest.fixture
async def stored(database: Database) -> None:
    async with database.admin() as connection:
        for organization_id, name in ((1, "first"), (1, "second"), (2, "third")):
            await connection.execute(
                "INSERT INTO things (organization_id, name, price, state, created_at, updated_at,"
                " version) VALUES ($1, $2, 1, 'open', now(), now(), 1)",
                organization_id,
                name,
            )


@pytest.mark.usefixtures("stored")
async def test_a_reader_sees_the_rows_of_its_tenant(transactions: Transactions) -> None:
    expected = {
        Tenant(1): b'[{"name":"second"},{"name":"first"}]',
        Tenant(2): b'[{"name":"third"}]',
        NOTHING: b"[]",
        EVERYTHING: b'[{"name":"third"},{"name":"second"},{"name":"first"}]',
    }
    # One connection serves all of them, whatever the statement before has set.
    for tenant in [*expected, *reversed(expected)]:
        assert await THINGS.list(Reader(transactions.engine, tenant)) == expected[tenant]
    widened = all_tenants(Reader(transactions.engine, NOTHING))
    assert await THINGS.list(widened) == expected[EVERYTHING]


@pytest.mark.usefixtures("stored")
async def test_one_row_has_its_facts(transactions: Transactions) -> None:
    document = await THINGS.find(Reader(transactions.engine, Tenant(2)), name="third")
    assert document is not None
    assert document.body == b'{"name":"third"}'
    assert document.facts.organization_id == 2
    assert await THINGS.find(Reader(transactions.engine, Tenant(1)), name="third") is None


@pytest.mark.usefixtures("stored")
async def test_facts_are_those_of_a_row_of_the_tenant(transactions: Transactions) -> None:
    facts = await FACTS.find(Reader(transactions.engine, Tenant(2)), name="third")
    assert facts.organization_id == 2
    assert await FACTS.find(Reader(transactions.engine, Tenant(1)), name="third") is None


async def test_the_tenant_ends_with_the_statement(transactions: Transactions) -> None:
    reader = Reader(transactions.engine, EVERYTHING)
    document = await SCOPE.find(reader)
    assert document is not None
    assert document.body == b'{"value":"all"}'
    async with transactions.engine.connect() as connection:
        left = await connection.execute(select(func.current_setting("carnet.scope", True)))
        assert not left.scalar_one()


async def test_a_failed_statement_raises_what_a_session_raises(transactions: Transactions) -> None:
    reader = Reader(transactions.engine, EVERYTHING)
    wrong = JsonQuery(Setting, select(), {"value": cast(literal(1, BigInteger) / 0, Text)})
    with pytest.raises(DBAPIError) as caught:
        await wrong.find(reader)
    assert not is_outage(caught.value)
    ended = func.pg_terminate_backend(func.pg_backend_pid())
    with pytest.raises(DBAPIError) as caught:
        await JsonQuery(Setting, select(), {"value": cast(ended, Text)}).find(reader)
    assert is_outage(caught.value)
    assert await SCOPE.find(reader) is not None


async def test_a_cancelled_read_leaves_no_statement(
    transactions: Transactions, database: Database
) -> None:
    reader = Reader(transactions.engine, EVERYTHING)
    slow = JsonQuery(Setting, select(), {"value": cast(func.pg_sleep(600), Text)})
    task = asyncio.ensure_future(slow.find(reader))

    async with database.admin() as connection:

        async def sleeps() -> bool:
            return await _sleeping(connection) == 1

        async def ended() -> bool:
            return await _sleeping(connection) == 0

        await until(sleeps)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(ended)
    assert await SCOPE.find(reader) is not None


async def _sleeping(connection: asyncpg.Connection) -> int:
    count: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event = 'PgSleep'"
    )
    return count
