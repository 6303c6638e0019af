"""Killed at any moment and started again, the upgrade ends as an uninterrupted one does."""

import asyncio
import os
import random
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from deploy.proof.rehearsal.databases import (
    READER,
    VersionOne,
    VersionTwo,
    copy_template,
    drop,
    upgraded,
)
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.operator import command
from deploy.upgrade.operator.preflight import inspect
from deploy.upgrade.run.progress import NoProgress
from deploy.upgrade.run.rollback import roll_back
from deploy.upgrade.run.verification import verify
from deploy.upgrade.source import APPLICATION
from deploy.upgrade.tests import commands
from deploy.upgrade.tests.test_rollback import STRUCTURE
from shared.testing import until

pytestmark = pytest.mark.anyio

# Ids with holes, every status, used and spare codes; 2,600 rows of them.
MANY = """
    INSERT INTO users (id, email, name, password_hash, role)
    SELECT 3 * n + 20, CASE WHEN n % 50 = 1 THEN 'SAME' || n - 1 ELSE 'same' || n END || '@x.org',
           'User ' || n, 'h', 'client' FROM generate_series(1, 300) n;
    INSERT INTO vouchers (id, client_id, therapy_class_id, purchase_date, valid_until,
                          total_sessions, used_sessions)
    SELECT 2 * n + 10, 3 * (n % 300) + 23, 1 + n % 3, '2024-01-01', current_date - 100 + n,
           10, n % 11 FROM generate_series(1, 300) n;
    INSERT INTO voucher_codes (id, voucher_id, code, is_spare, is_used, used_date)
    SELECT v.id * 10 + k, v.id, format('VK-%s-%s', v.id, k), k > 4, k <= v.used_sessions,
           timestamp '2024-02-01' + k * interval '7 days'
    FROM vouchers v, generate_series(1, 5) k WHERE v.id > 10;
    INSERT INTO sessions (therapy_class_id, session_date, notes)
    SELECT 1 + n % 3, timestamp '2024-01-01' + n * interval '1 hour', 'note ' || n
    FROM generate_series(1, 200) n;
    INSERT INTO reservations (client_id, therapy_class_id, session_date, voucher_code_id)
    SELECT 3 * n + 20, 1, '2024-01-01', NULL FROM generate_series(1, 200) n
"""
DONE = """
    SELECT coalesce((SELECT sum(rows) FROM identity.upgrade_steps), 0)
         + coalesce((SELECT sum(rows) FROM vouchers.upgrade_steps), 0) AS rows
"""
COMPARED = {
    "identity.users": "*",
    "identity.permissions": "user_id, organization_id, permission",
    "vouchers.client_copies": "*",
    "vouchers.therapy_classes": "*",
    "vouchers.vouchers": "*",
    "vouchers.voucher_codes": "*",
    "vouchers.redemptions": "*",
    "vouchers.sessions": "*",
    "vouchers.reservations": "*",
    "vouchers.upgrade_findings": "*",
    "identity.upgrade_findings": "*",
}
FULL_DISK = """
    CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END
    $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON vouchers.voucher_codes
    FOR EACH ROW WHEN (NEW.id > 3000) EXECUTE FUNCTION public.full_disk()
"""
# A run waits in the middle of the codes for as long as another session holds the lock 1.
STANDING = """
    CREATE FUNCTION public.stand() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END
    $$;
    CREATE TRIGGER stand BEFORE INSERT ON vouchers.voucher_codes
    FOR EACH ROW WHEN (NEW.id > 3000) EXECUTE FUNCTION public.stand()
"""
# The server lists the locks of all its databases, also those of tests in other processes.
STANDS = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE datname = current_database() AND locktype = 'advisory' AND objid = 1 AND NOT granted
"""
NOT_COUNTED = {"identity.permissions", "vouchers.upgrade_findings", "identity.upgrade_findings"}
# Given by a sequence, which a killed transaction does not give back.
DRAWN = ("organization_id", "voucher_type_id", "resource_ids")


@pytest.fixture
async def many(v1: VersionOne) -> VersionOne:
    await v1.execute(MANY)
    return v1


async def content(v2: VersionTwo) -> dict[str, list[dict[str, Any]]]:
    return {
        table: [
            {name: value for name, value in row.items() if name not in DRAWN}
            for row in await v2.rows(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3")
        ]
        for table, columns in COMPARED.items()
    }


async def start(v1: VersionOne, v2: VersionTwo) -> Process:
    return await commands.start(v2.environment, "data", "--source", v1.reader, "--chunk-rows", "40")


async def rows_done(v2: VersionTwo) -> int:
    if await v2.value("SELECT to_regclass('vouchers.upgrade_steps') IS NULL"):
        return -1
    return int(await v2.value(DONE))


@asynccontextmanager
async def standing(v1: VersionOne, v2: VersionTwo) -> AsyncIterator[Process]:
    """An upgrade that waits in the middle of its rows until the block ends."""
    await v2.execute(STANDING)
    holding = await asyncpg.connect(v2.admin_url)
    try:
        await holding.execute("SELECT pg_advisory_lock(1)")
        process = await start(v1, v2)
        await wait_for(v2, process, STANDS, 1)
        yield process
    finally:
        await holding.close()


async def wait_for(v2: VersionTwo, process: Process, query: str, count: int) -> None:
    """Wait until a query counts so many, while an upgrade is at work."""

    async def is_so() -> bool:
        assert process.returncode is None, (await process.communicate())[1].decode()
        return bool(await v2.value(query) >= count)

    await until(is_so)


async def kill_after(v2: VersionTwo, process: Process, rows: int) -> bool:
    """Kill the upgrade once it has written so many rows; return whether it was still at work."""
    while process.returncode is None and await rows_done(v2) < rows:
        await asyncio.sleep(0.005)
    await asyncio.sleep(random.uniform(0, 0.1))
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    return process.returncode == -signal.SIGKILL


async def finish(v1: VersionOne, v2: VersionTwo) -> None:
    process = await start(v1, v2)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_killed_at_random_moments(
    many: VersionOne, v2: VersionTwo, admin_url: str, template: str
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    random.seed(seed)
    killed = 0
    for rows in sorted(random.sample(range(3_900), 5)):
        killed += await kill_after(v2, await start(many, v2), rows)
    assert killed >= 3
    await finish(many, v2)
    assert (await verify(v2.target, many.reader)).passed

    calm = await copy_template(admin_url, template)
    try:
        await upgraded(many, calm)
        assert await content(v2) == await content(calm)
        assert await v2.rows(STRUCTURE) == await calm.rows(STRUCTURE)
        sequences = "SELECT nextval('vouchers.redemptions_id_seq')"
        assert await v2.value(sequences) == await calm.value(sequences)
    finally:
        await drop(admin_url, calm.name)


async def test_killed_before_the_first_row_and_rolled_back(
    many: VersionOne, v2: VersionTwo
) -> None:
    structure = await v2.rows(STRUCTURE)
    async with standing(many, v2) as process:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    await v2.execute("DROP TRIGGER stand ON vouchers.voucher_codes")
    await roll_back(v2.target, NoProgress(), force=False)
    assert await v2.rows(STRUCTURE) == structure
    assert await v2.value("SELECT count(*) FROM identity.users") == 0
    assert await v2.value("SELECT count(*) FROM organizations.organizations") == 0


async def test_a_second_run_changes_nothing(v1: VersionOne, v2: VersionTwo) -> None:
    first = await upgraded(v1, v2)
    before, trail = await content(v2), await v2.rows("SELECT * FROM audit.audit_logs")
    assert await upgraded(v1, v2) == first
    assert await content(v2) == before
    assert await v2.rows("SELECT * FROM audit.audit_logs") == trail


async def fail_and_finish(v1: VersionOne, v2: VersionTwo, process: Process) -> str:
    """Return the messages of an upgrade that was cut off; another run completes it."""
    _, said = await process.communicate()
    assert process.returncode == 1
    assert "repeat the command" in said.decode()
    assert "Traceback" not in said.decode()
    await v2.execute("DROP TRIGGER IF EXISTS full_disk ON vouchers.voucher_codes")
    await finish(v1, v2)
    assert (await verify(v2.target, v1.reader)).passed
    return said.decode()


@pytest.mark.parametrize("whose", [READER, "vouchers_owner", "organizations"])
async def test_a_lost_connection_is_reported_and_the_next_run_completes(
    many: VersionOne, v2: VersionTwo, whose: str
) -> None:
    async with standing(many, v2) as process:
        version = many if whose == READER else v2
        assert await version.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = $1",
            whose,
        )
    await fail_and_finish(many, v2, process)


@pytest.mark.parametrize("failure", [asyncpg.InternalClientError, ConnectionResetError])
def test_the_drivers_message_of_a_lost_connection_is_reported(failure: type[Exception]) -> None:
    """Which of these messages it prints depends on the moment: too rare for the test above."""

    async def lose() -> None:
        raise failure("another operation (2) is in progress")

    with pytest.raises(
        UpgradeError, match="A database returned an error or disconnected: another operation"
    ):
        command.run(lose())


async def test_a_full_disk_is_reported_and_the_next_run_completes(
    many: VersionOne, v2: VersionTwo
) -> None:
    await v2.execute(FULL_DISK)
    said = await fail_and_finish(many, v2, await start(many, v2))
    assert "No space left on device" in said


async def test_rolled_back_in_the_middle(many: VersionOne, v2: VersionTwo) -> None:
    structure = await v2.rows(STRUCTURE)
    await v2.execute(FULL_DISK)
    process = await start(many, v2)
    await process.communicate()
    assert await v2.value("SELECT count(*) FROM vouchers.upgrade_suspended") > 0
    assert await v2.value("SELECT count(*) FROM vouchers.voucher_codes") > 0
    await v2.execute("DROP TRIGGER full_disk ON vouchers.voucher_codes")
    await roll_back(v2.target, NoProgress(), force=False)
    assert await v2.rows(STRUCTURE) == structure
    assert await v2.value("SELECT count(*) FROM vouchers.voucher_codes") == 0
    await finish(many, v2)
    assert (await verify(v2.target, many.reader)).passed


async def test_a_session_that_a_killed_run_left_is_waited_for(
    v1: VersionOne, v2: VersionTwo
) -> None:
    """What the server still commits for a run that is gone must not be copied a second time."""
    left = await asyncpg.connect(
        v2.target.owner("vouchers"), server_settings={"application_name": APPLICATION}
    )
    upgrading = asyncio.create_task(upgraded(v1, v2))
    await asyncio.sleep(1)
    assert await v2.value("SELECT to_regclass('vouchers.upgrade_steps') IS NULL")
    await left.close()
    await upgrading
    assert (await verify(v2.target, v1.reader)).passed


async def test_refused_while_a_service_is_at_work(v1: VersionOne, v2: VersionTwo) -> None:
    at_work = await asyncpg.connect(v2.target.service("vouchers"))
    try:
        with pytest.raises(UpgradeError, match="Version 2 is running: vouchers"):
            await upgraded(v1, v2)
        assert not await v2.value("SELECT to_regclass('organizations.upgrade_plan') IS NOT NULL")
        found = await inspect(v1.reader, v2.target, None)
        assert "Version 2 is running. Stop it before `data`." in found.warnings
    finally:
        await at_work.close()
    first = await upgraded(v1, v2)
    at_work = await asyncpg.connect(v2.target.service("vouchers"))
    try:
        assert await upgraded(v1, v2) == first, "what is done already hurts nobody"
        with pytest.raises(UpgradeError, match="Version 2 is running: vouchers"):
            await roll_back(v2.target, NoProgress(), force=False)
    finally:
        await at_work.close()
    assert (await verify(v2.target, v1.reader)).passed


async def test_the_server_knows_the_rows_before_anybody_asks(
    many: VersionOne, v2: VersionTwo
) -> None:
    await upgraded(many, v2)
    known = await v2.rows("SELECT DISTINCT schemaname || '.' || tablename AS name FROM pg_stats")
    assert {*COMPARED} - NOT_COUNTED <= {row["name"] for row in known}


WAITING_INDEXES = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE datname = current_database() AND relation = 'vouchers.voucher_codes'::regclass
    AND mode = 'ShareLock' AND NOT granted
"""


async def test_killed_while_two_indexes_of_a_table_are_built(
    many: VersionOne, v2: VersionTwo
) -> None:
    structure = await v2.rows(STRUCTURE)
    holding = await asyncpg.connect(v2.admin_url)
    try:
        async with standing(many, v2) as process:
            # Rows may still enter, but no index can be built.
            await holding.execute("BEGIN; LOCK TABLE vouchers.voucher_codes IN ROW EXCLUSIVE MODE")
        await wait_for(v2, process, WAITING_INDEXES, 2)
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    finally:
        await holding.close()
    await finish(many, v2)
    now = await v2.rows(STRUCTURE)
    assert [part for part in structure if part not in now] == []
    assert (await verify(v2.target, many.reader)).passed
