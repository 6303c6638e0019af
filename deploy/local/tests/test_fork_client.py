"""Processes forked from the fork server are like executed ones, and end with it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local.fork_client import ForkClient, ForkedProcess
from deploy.local.processes import Identity, signal_group
from deploy.local.supervisor import Program, Supervisor, own_environment
from deploy.local.tests.waiting import wait_for_text
from shared.testing import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are executed"),
]

MODULE = "deploy.local.tests.forked"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ForkClient]:
    client = ForkClient(tmp_path_factory.mktemp("fork-server"), own_environment())
    yield client
    await client.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "child.log"
    file.touch()
    return file


async def fork(
    client: ForkClient, log: Path, module: str = MODULE, **environment: str
) -> ForkedProcess:
    return await client.fork("child", module, environment, log.parent, log, signal.SIGKILL)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


def open_files(pid: int) -> set[str]:
    return {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def title_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_forked_process_is_what_it_was_asked_to_be(client: ForkClient, log: Path) -> None:
    child = await fork(client, log, EXIT="3", COLOUR="blue")
    assert await child.wait() == child.returncode == 3
    assert lines(log) == [
        f"argv [] in {log.parent} as group {child.pid}",
        "environment ['COLOUR', 'EXIT']",
    ]


async def test_it_ends_by_the_signals_it_gets(client: ForkClient, log: Path) -> None:
    codes = {}
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        child = await fork(client, log)
        signal_group(child.pid, number)
        codes[number] = await child.wait()
    # Python turns SIGINT into KeyboardInterrupt, and that at the end into the signal again.
    assert codes == {number: -number for number in codes}


async def test_a_module_that_does_not_exist_is_reported_in_its_log(
    client: ForkClient, log: Path
) -> None:
    child = await fork(client, log, "deploy.local.tests.nowhere")
    assert await child.wait() == 1
    assert "No module named deploy.local.tests.nowhere" in lines(log)[-1]


async def test_operators_see_its_name(client: ForkClient, log: Path) -> None:
    child = await fork(client, log)
    assert name_of(child.pid) == "child"
    assert title_of(child.pid) == "carnet: child"
    assert title_of(parent_of(child.pid)) == "carnet: fork server"
    signal_group(child.pid, signal.SIGKILL)


async def test_the_fork_server_has_one_thread_and_no_connection_but_ours(
    client: ForkClient, log: Path
) -> None:
    """What a library left behind at its import, every child would have half of."""
    child = await fork(client, log)
    await wait_for_text(log, "environment")
    server = parent_of(child.pid)
    assert threads(server) == 1
    assert len([file for file in open_files(server) if file.startswith("socket")]) == 1
    assert open_files(child.pid) == {os.devnull, str(log)}
    signal_group(child.pid, signal.SIGKILL)


async def test_a_cancelled_fork_leaves_no_process(client: ForkClient, log: Path) -> None:
    await (await fork(client, log, EXIT="0")).wait()
    task = asyncio.create_task(fork(client, log))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    seen = await fork(client, log, EXIT="0")
    await seen.wait()
    # Asked for before `seen`: had it lived, its group would be there.
    groups = [line.split()[-1] for line in lines(log) if "group" in line]
    strangers = [int(group) for group in groups if int(group) != seen.pid]

    async def all_gone() -> bool:
        return not any(Identity.of(pid) for pid in strangers)

    await until(all_gone)


async def test_without_the_fork_server_a_process_dies_and_is_started_again(
    tmp_path: Path, supervisor: Supervisor, messages: list[str]
) -> None:
    program = Program("child", (), own_environment(), tmp_path, module=MODULE)
    await supervisor.start(program)
    before = supervisor.pids()["child"]
    os.kill(parent_of(before), signal.SIGKILL)
    await supervisor.wait_for_start("child", 2)
    assert supervisor.pids()["child"] != before
    assert not Identity.of(before)
    assert "killed by SIGKILL" in messages[0]
