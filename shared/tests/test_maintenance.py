"""While a notice is in the schema no process starts, and no running one is overlooked."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.db import make_engine
from shared.maintenance import (
    MAKE_TABLE,
    MaintenanceNotice,
    find_notice,
    refuse_to_start,
    refuse_to_start_once_reachable,
)
from shared.settings import ServiceSettings
from shared.testing import Database, free_port, until
from shared.tests.slow_worker import environment_of, start_slow_worker

pytestmark = pytest.mark.anyio

MOVING = MaintenanceNotice("The rows are on their way.", "Wait for them.")
SESSIONS = "SELECT 1 FROM pg_stat_activity WHERE usename = $1 AND datname = current_database()"


@pytest.fixture
async def engine(settings: ServiceSettings) -> AsyncIterator[AsyncEngine]:
    made = make_engine(settings.database_url)
    yield made
    await made.dispose()


@pytest.fixture
async def table(database: Database) -> AsyncIterator[None]:
    """The table, created by the schema's owner as the upgrade creates it."""
    async with database.admin() as admin:
        await admin.execute(f"SET ROLE {database.service}_owner")
        await admin.execute(MAKE_TABLE)
    yield
    async with database.admin() as admin:
        await admin.execute("DROP TABLE maintenance")


async def put_up(database: Database) -> None:
    async with database.admin() as admin:
        await admin.execute(
            "INSERT INTO maintenance (reason, remedy) VALUES ($1, $2)", MOVING.reason, MOVING.remedy
        )


async def test_without_a_table_there_is_no_notice(engine: AsyncEngine) -> None:
    assert await find_notice(engine) is None
    await refuse_to_start(engine)


@pytest.mark.usefixtures("table")
async def test_a_notice_is_reported_until_it_is_removed(
    engine: AsyncEngine, database: Database
) -> None:
    assert await find_notice(engine) is None
    await put_up(database)
    assert await find_notice(engine) == MOVING
    with pytest.raises(SystemExit) as ended:
        await refuse_to_start(engine)
    assert ended.value.code == "The rows are on their way. Wait for them."
    await database.rows("DELETE FROM maintenance")
    await refuse_to_start(engine)


async def test_whoever_passed_has_a_session(engine: AsyncEngine, database: Database) -> None:
    assert not await database.rows(SESSIONS, database.service)
    await refuse_to_start(engine)
    assert len(await database.rows(SESSIONS, database.service)) == 1


@pytest.mark.usefixtures("table")
async def test_a_database_that_does_not_answer_is_waited_for(
    settings: ServiceSettings, database: Database
) -> None:
    await put_up(database)
    real = make_url(settings.database_url.get_secret_value())
    port = free_port()
    away = real.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    engine = make_engine(SecretStr(away))
    starting = asyncio.ensure_future(_outcome(engine))
    await asyncio.sleep(0.5)
    assert not starting.done()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection(real.host, real.port or 5432)
        await asyncio.gather(_pipe(reader, outer), _pipe(inner, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", port):
        assert await asyncio.wait_for(starting, 10) == "The rows are on their way. Wait for them."


async def test_a_worker_that_waits_for_its_database_is_alive_and_not_ready(
    settings: ServiceSettings, sample_url: SecretStr, tmp_path: Path
) -> None:
    port = free_port()
    away = make_url(settings.database_url.get_secret_value()).set(port=free_port())
    environment = environment_of(settings, sample_url) | {
        "DATABASE_URL": away.render_as_string(hide_password=False),
        "OPERATIONS_PORT": str(port),
    }
    process = await start_slow_worker(tmp_path / "begun", environment)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await until(partial(_answers, client), seconds=60)
            ready = await client.get("/health/ready")
        assert (ready.status_code, "database" in ready.json()["missing"]) == (503, True)
    finally:
        process.terminate()
        await process.wait()


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).status_code == 200
    except httpx.ConnectError:
        return False


async def _outcome(engine: AsyncEngine) -> str:
    """Return how the process would end; a task cannot hand on a SystemExit."""
    try:
        await refuse_to_start_once_reachable(engine)
    except SystemExit as ended:
        return str(ended.code)
    return ""


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while received := await reader.read(65536):
        writer.write(received)
        await writer.drain()
    writer.close()
