"""No process of version 2 starts on half a database, however it is started."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from deploy.local.settings import StackSettings
from deploy.local.stack import Stack
from deploy.local.system import CHECKOUT, System
from deploy.proof.rehearsal.databases import VersionOne, VersionTwo, upgraded
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.run import maintenance_notice
from deploy.upgrade.run.progress import NoProgress
from deploy.upgrade.run.rollback import roll_back
from deploy.upgrade.run.verification import verify
from deploy.upgrade.run.workspace import create_tables
from deploy.upgrade.targets import COPIED_INTO, owner_connections, service_connections
from deploy.upgrade.tests import commands
from deploy.upgrade.tests.test_interruptions import MANY, finish, kill_after, start
from shared.testing import until

pytestmark = pytest.mark.anyio

NOTICES = " UNION ALL ".join(f"SELECT reason FROM {service}.maintenance" for service in COPIED_INTO)
ADMIN = {"IDENTITY_ADMIN_EMAIL": "first@example.com", "IDENTITY_ADMIN_PASSWORD": "a long sentence"}


@dataclass(frozen=True)
class Services:
    """The processes of the services that get rows, as an operator without `make run` has them."""

    system: System
    v2: VersionTwo

    def jobs(self) -> dict[str, dict[str, str]]:
        """Return the modules that run to their end, and their environments."""
        jobs = {f"services.{name}.migrate": self.system.one_off(name) for name in COPIED_INTO}
        jobs["services.identity.bootstrap"] = self.system.one_off("identity", **ADMIN)
        return jobs

    def lasting(self) -> dict[str, dict[str, str]]:
        """Return the modules that run until they are stopped."""
        return {
            instance.module: self.system.environment(instance)
            for instance in self.system.instances
            if instance.owner in COPIED_INTO
        }

    def health_of(self, module: str) -> str:
        """Return the file that a lasting process writes once it has passed the notices."""
        [instance] = [found for found in self.system.instances if found.module == module]
        return f"http://127.0.0.1:{instance.readiness_port}/health"

    async def start(self, module: str, environment: Mapping[str, str]) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            cwd=CHECKOUT,
            env={**environment, **self.v2.environment},
            stdout=PIPE,
            stderr=STDOUT,
        )

    async def ended(self, modules: Mapping[str, dict[str, str]]) -> dict[str, tuple[int, str]]:
        """Run modules to their ends; return exit codes and output."""
        found = {}
        for module, environment in modules.items():
            process = await self.start(module, environment)
            async with asyncio.timeout(60):
                said, _ = await process.communicate()
            assert process.returncode is not None
            found[module] = (process.returncode, said.decode())
        return found

    @asynccontextmanager
    async def running(self, module: str) -> AsyncIterator[Process]:
        """Run one of the lasting modules until the block ends."""
        process = await self.start(module, self.lasting()[module])
        try:
            await until(lambda: _answers(self.health_of(module)), seconds=60)
            yield process
        finally:
            process.kill()
            await process.communicate()


async def _answers(address: str) -> bool:
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(address)).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def services(v2: VersionTwo, tmp_path: Path) -> Services:
    settings = StackSettings(
        data=tmp_path, database_url=v2.admin_url, rabbitmq_url="amqp://guest:guest@127.0.0.1:1/"
    )
    return Services(Stack(settings, print, {}).system, v2)


async def all_refuse(services: Services, reason: str, remedy: str) -> None:
    modules = services.jobs() | services.lasting()
    for module, (code, said) in (await services.ended(modules)).items():
        assert code == 1, module
        assert reason in said, module
        assert remedy in said, module
        assert "Traceback" not in said, module


async def all_end_well(services: Services) -> None:
    for module, (code, said) in (await services.ended(services.jobs())).items():
        assert code == 0, (module, said)


async def test_nothing_starts_after_a_killed_upgrade_until_it_is_finished(
    v1: VersionOne, v2: VersionTwo, services: Services
) -> None:
    await v1.execute(MANY)
    assert await kill_after(v2, await start(v1, v2), 700)
    await all_refuse(
        services,
        "An upgrade from version 1 was started and is not finished.",
        "Finish it: carnet upgrade data; or undo it: carnet upgrade rollback.",
    )
    made = "SELECT count(*) FROM identity.users WHERE email = $1"
    assert not await v2.value(made, ADMIN["IDENTITY_ADMIN_EMAIL"])
    await finish(v1, v2)
    assert (await verify(v2.target, v1.reader)).passed
    await all_end_well(services)
    for module in services.lasting():
        async with services.running(module):
            pass


async def test_everything_starts_after_a_rollback(
    v1: VersionOne, v2: VersionTwo, services: Services
) -> None:
    await v1.execute(MANY)
    assert await kill_after(v2, await start(v1, v2), 700)
    await roll_back(v2.target, NoProgress(), force=False)
    await all_end_well(services)
    async with services.running("services.vouchers.worker"):
        pass


async def test_a_rollback_that_was_killed_must_be_finished(
    v1: VersionOne, v2: VersionTwo, services: Services
) -> None:
    await upgraded(v1, v2)
    holding = await asyncpg.connect(v2.admin_url)
    process = await commands.start(v2.environment, "rollback")
    try:
        # Its plan is changed, but nothing can be deleted yet.
        await holding.execute("BEGIN; LOCK TABLE vouchers.vouchers IN SHARE MODE")
        begun = "SELECT rolling_back FROM organizations.upgrade_plan"
        await until(lambda: v2.value(begun), seconds=60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        await holding.close()
    reason = "A rollback of the upgrade from version 1 was started and is not finished."
    for module, (code, said) in (await services.ended(services.jobs())).items():
        assert (code, said) == (1, f"{reason} Finish it: carnet upgrade rollback.\n"), module
    await roll_back(v2.target, NoProgress(), force=False)
    assert not await v2.value("SELECT to_regclass('identity.maintenance') IS NOT NULL")


async def test_a_rollback_that_was_killed_at_its_end_can_be_finished(
    v1: VersionOne, v2: VersionTwo
) -> None:
    await upgraded(v1, v2)
    await v2.execute(
        "UPDATE organizations.upgrade_plan SET rolling_back = true",
        "DROP TABLE vouchers.upgrade_plan, vouchers.upgrade_steps, vouchers.upgrade_findings,"
        " vouchers.upgrade_voucher_types, vouchers.maintenance",
    )
    await roll_back(v2.target, NoProgress(), force=False)
    assert await v2.value("SELECT count(*) FROM identity.users") == 0


async def publish(v2: VersionTwo) -> None:
    """Publish the notices as an upgrade does, and end."""
    async with owner_connections(v2.target) as owners, service_connections(v2.target) as targets:
        await create_tables(owners)
        await maintenance_notice.publish(maintenance_notice.UPGRADING, targets)


async def test_notices_of_an_upgrade_that_had_no_plan_yet(v1: VersionOne, v2: VersionTwo) -> None:
    await publish(v2)
    with pytest.raises(UpgradeError, match="No data was upgraded"):
        await roll_back(v2.target, NoProgress(), force=False)
    assert not await v2.value("SELECT to_regclass('organizations.maintenance') IS NOT NULL")
    await publish(v2)
    await upgraded(v1, v2)
    assert await v2.rows(NOTICES) == []


async def test_notices_that_an_upgrade_left_when_it_was_finished(
    v1: VersionOne, v2: VersionTwo
) -> None:
    first = await upgraded(v1, v2)
    await publish(v2)
    assert len(await v2.rows(NOTICES)) == 3
    assert await upgraded(v1, v2) == first
    assert await v2.rows(NOTICES) == []


async def test_whoever_started_just_before_the_notices_is_seen(
    v1: VersionOne, v2: VersionTwo
) -> None:
    started = await asyncpg.connect(v2.target.service("identity"))
    try:
        with pytest.raises(UpgradeError, match="Version 2 is running: identity"):
            await publish(v2)
    finally:
        await started.close()
    await upgraded(v1, v2)
    assert await v2.rows(NOTICES) == []


SLOWLY = """
    CREATE FUNCTION identity.wait_a_while() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(1); RETURN NEW; END';
    CREATE TRIGGER wait_a_while BEFORE INSERT ON identity.maintenance
        FOR EACH ROW EXECUTE FUNCTION identity.wait_a_while()
"""
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = 'identity'"


async def test_a_rollback_that_could_not_begin_leaves_no_notice(
    v1: VersionOne, v2: VersionTwo
) -> None:
    """The upgrade is finished and in use: a process that is started again must start."""
    await upgraded(v1, v2)
    await v2.execute(SLOWLY)
    rolling_back = asyncio.create_task(roll_back(v2.target, NoProgress(), force=True))

    async def announcing() -> bool:
        return bool(await v2.rows(WAITING))

    await until(announcing)
    started = await asyncpg.connect(v2.target.service("vouchers"))
    try:
        with pytest.raises(UpgradeError, match="Version 2 is running: vouchers"):
            await rolling_back
    finally:
        await started.close()
    assert await v2.rows(NOTICES) == []
    assert (await verify(v2.target, v1.reader)).passed


async def test_a_schema_whose_plan_is_kept_keeps_its_notice(v1: VersionOne, v2: VersionTwo) -> None:
    """The schemas may lie on three servers, and one of them may be of another day."""
    await upgraded(v1, v2)
    await publish(v2)
    async with owner_connections(v2.target) as owners:
        await owners["organizations"].execute("DELETE FROM upgrade_plan")
    with pytest.raises(UpgradeError, match="No data was upgraded"):
        await roll_back(v2.target, NoProgress(), force=False)
    assert len(await v2.rows("SELECT FROM vouchers.maintenance")) == 1


async def test_an_api_without_requests_is_seen_at_work(
    v1: VersionOne, v2: VersionTwo, services: Services
) -> None:
    async with services.running("services.vouchers.app"):
        with pytest.raises(UpgradeError, match="Version 2 is running: vouchers"):
            await upgraded(v1, v2)
    await upgraded(v1, v2)
