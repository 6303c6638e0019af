"""PostgreSQL and RabbitMQ for real, in a folder of a test's own."""

import asyncio
import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import aio_pika
import asyncpg
import pytest

from deploy.local.errors import StartError
from deploy.local.ports import Ports
from deploy.local.postgres import Postgres
from deploy.local.processes import marked
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.secret_store import SecretStore
from deploy.local.servers import locked, postgres_of, rabbitmq_of
from deploy.local.supervisor import Program, Supervisor
from shared import bus
from shared.testing import until

pytestmark = pytest.mark.anyio


def postgres_in(folder: Path) -> Postgres:
    return postgres_of(
        folder, Ports(folder / "ports.json"), SecretStore(folder / "secrets.json"), durable=False
    )


def rabbitmq_in(folder: Path) -> RabbitMQ:
    return rabbitmq_of(
        folder, Ports(folder / "ports.json"), SecretStore(folder / "secrets.json"), print
    )


async def query(postgres: Postgres, sql: str) -> object:
    connection = await asyncpg.connect(postgres.url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgres_keeps_its_rows_when_everything_is_killed(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    postgres = postgres_in(tmp_path)
    await postgres.start(supervisor)
    await query(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
    supervisor.kill("postgres", signal.SIGKILL)
    await supervisor.wait_for_start("postgres", 2)
    await until(lambda: answers(postgres), seconds=20)
    assert await query(postgres, "SELECT answer FROM kept") == 42


async def answers(postgres: Postgres) -> bool:
    try:
        return await query(postgres, "SELECT 1") == 1
    except (OSError, asyncpg.PostgresError):
        return False


async def test_postgres_sorts_by_code_point_knows_letters_and_asks_for_a_password(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    postgres = postgres_in(tmp_path)
    await postgres.start(supervisor)
    assert await query(postgres, "SELECT lower('ÀÉ') || ('Z' < 'a')") == "àétrue"
    wrong = re.sub(r":[^:@]+@", ":wrong@", postgres.url)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


@pytest.mark.skipif(os.geteuid() != 0, reason="root's own case")
async def test_postgres_of_root_runs_as_another_user_below_a_closed_folder(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    assert mode(tmp_path) == 0o700
    postgres = postgres_in(tmp_path)
    await postgres.start(supervisor)
    pid = supervisor.pids()["postgres"]
    assert status_of(pid, "Uid").split()[0] != "0"
    assert int(status_of(pid, "CapEff"), 16).bit_count() == 1
    assert postgres.runs_as is not None
    assert mode(tmp_path) == 0o700


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def start_without_supervisor(program: Program) -> subprocess.Popen[bytes]:
    """Start a program that nobody starts again when it ends."""
    return subprocess.Popen(
        program.command,
        env=program.environment,
        cwd=program.directory,
        preexec_fn=program.become,
    )


def status_of(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith(f"{field}:"))


async def test_a_postmaster_that_still_runs_is_ended_first(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    postgres = postgres_in(tmp_path)
    await postgres.start(supervisor)  # creates the cluster
    await supervisor.stop()
    former = start_without_supervisor(postgres._program())
    await until(lambda: answers(postgres), seconds=20)
    await postgres.start(supervisor)
    assert supervisor.pids()["postgres"] != former.pid
    assert former.wait(20) == 0
    assert await answers(postgres)


async def test_a_broken_cluster_is_reported(tmp_path: Path, supervisor: Supervisor) -> None:
    (tmp_path / "postgres" / "cluster").mkdir(parents=True)
    with pytest.raises(StartError, match="not a complete PostgreSQL cluster"):
        await postgres_in(tmp_path).start(supervisor)
    assert list(marked(tmp_path)) == []


async def test_rabbitmq_keeps_quorum_queues_when_it_is_killed(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    rabbitmq = rabbitmq_in(tmp_path)
    await rabbitmq.start(supervisor)
    await put_message(rabbitmq)
    # RabbitMQ 3.10 killed within moments of a quorum queue's birth never elects its leader again.
    await asyncio.sleep(3)
    supervisor.kill("rabbitmq", signal.SIGKILL)
    supervisor.kill("epmd", signal.SIGKILL)
    await supervisor.wait_for_start("rabbitmq", 2)
    await until(lambda: has_message(rabbitmq), seconds=60)
    await supervisor.stop()
    assert list(marked(tmp_path)) == []


async def test_a_path_that_rabbitmq_cannot_use_is_reported(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    folder = tmp_path / "My Projects"
    await asyncio.to_thread(folder.mkdir)
    with pytest.raises(StartError, match="has a space, a quote"):
        await rabbitmq_in(folder).start(supervisor)


async def put_message(rabbitmq: RabbitMQ) -> None:
    async with bus.connected(f"{rabbitmq.url}/test-7", name="test") as connection:
        channel = await connection.channel()
        await channel.declare_queue("q", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"kept", delivery_mode=2), "q")


async def has_message(rabbitmq: RabbitMQ) -> bool:
    try:
        async with bus.connected(f"{rabbitmq.url}/test-7", name="test") as connection:
            queue = await (await connection.channel()).get_queue("q")
            message = await queue.get(timeout=5)
            return message.body == b"kept"
    except (OSError, aio_pika.exceptions.AMQPError):
        return False


def test_one_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(StartError, match="Another start uses"), locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="cannot be used"), locked(tmp_path / "file" / "data"):
        pass
