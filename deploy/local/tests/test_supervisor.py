"""Processes are started, restarted, stopped in order, and never left behind."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.errors import StartError
from deploy.local.processes import Identity, marked
from deploy.local.supervisor import LOG_LIMIT_BYTES, Program, Supervisor, own_environment
from deploy.local.system import CHECKOUT
from deploy.local.tests.waiting import wait_for_text
from shared.testing import until

pytestmark = pytest.mark.anyio


def shell(name: str, script: str, folder: Path, *, stage: int = 1, seconds: float = 30) -> Program:
    return Program(
        name=name,
        command=("/bin/sh", "-c", script),
        environment=own_environment(),
        directory=folder,
        stage=stage,
        stop_seconds=seconds,
    )


async def test_a_process_that_dies_is_started_again_after_growing_pauses(
    tmp_path: Path, supervisor: Supervisor, messages: list[str]
) -> None:
    began = time.monotonic()
    await supervisor.start(shell("frail", "echo born; exit 3", tmp_path))
    await supervisor.wait_for_start("frail", 3)
    assert time.monotonic() - began >= 1.5  # 0.5 s and 1 s
    assert supervisor.log_of("frail").read_text().count("born") >= 2
    assert "frail ended by itself (exit code 3); starting it again in 0.5 s" in messages[0]
    assert "in 1 s" in messages[1]


async def test_a_killed_process_comes_back_under_another_id(
    tmp_path: Path, supervisor: Supervisor, messages: list[str]
) -> None:
    await supervisor.start(shell("steady", "exec sleep 600", tmp_path))
    before = supervisor.pids()["steady"]
    supervisor.kill("steady", signal.SIGKILL)
    await supervisor.wait_for_start("steady", 2)
    assert supervisor.pids()["steady"] != before
    assert "killed by SIGKILL" in messages[0]


async def test_later_stages_stop_first(tmp_path: Path, supervisor: Supervisor) -> None:
    order = tmp_path / "order"
    for name, stage in (("servers", 0), ("services", 1), ("gateway", 2)):
        script = (
            f"trap 'echo {name} >> {order}; exit 0' TERM; echo up; while :; do sleep 0.02; done"
        )
        await supervisor.start(shell(name, script, tmp_path, stage=stage))
        await wait_for_text(supervisor.log_of(name), "up")
    await supervisor.stop()
    assert order.read_text().split() == ["gateway", "services", "servers"]


async def test_what_does_not_stop_in_time_is_killed_with_its_children(
    tmp_path: Path, supervisor: Supervisor, messages: list[str]
) -> None:
    script = "trap '' TERM; sleep 600 & echo $!; while :; do sleep 0.02; done"
    await supervisor.start(shell("stubborn", script, tmp_path, seconds=0.3))
    await wait_for_text(supervisor.log_of("stubborn"), "\n")
    child = Identity.of(int(supervisor.log_of("stubborn").read_text()))
    assert child is not None
    await supervisor.stop()
    await until(lambda: not child.is_running())
    assert messages == ["stubborn did not stop in time; killing it"]


async def test_stopping_in_the_pause_before_a_restart_starts_nothing(
    tmp_path: Path, supervisor: Supervisor, messages: list[str]
) -> None:
    await supervisor.start(shell("frail", "exit 1", tmp_path))
    await until(lambda: bool(messages))
    await supervisor.stop()
    await asyncio.sleep(0.6)
    assert list(marked(tmp_path)) == []


async def test_a_log_that_grew_too_long_is_set_aside_at_the_start(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    log = supervisor.log_of("chatty")
    log.parent.mkdir()
    log.write_bytes(b"x" * (LOG_LIMIT_BYTES + 1))
    await supervisor.start(shell("chatty", "echo anew; exec sleep 600", tmp_path))
    await wait_for_text(log, "anew")
    assert log.stat().st_size < 100
    assert log.with_name("chatty.log.1").stat().st_size > LOG_LIMIT_BYTES


async def test_a_command_that_does_not_exist_is_reported(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    program = Program("ghost", ("/no/such/program",), {}, tmp_path)
    with pytest.raises(StartError, match="ghost cannot be started"):
        await supervisor.start(program)


def _at_work(folder: Path) -> int:
    return len(list(marked(folder)))


_DOOMED = """
import asyncio, sys
from pathlib import Path
from deploy.local.supervisor import Program, Supervisor, own_environment

async def main(folder):
    supervisor = Supervisor(folder, print)
    script = "setsid sleep 600 & exec sleep 600"
    await supervisor.start(Program("child", ("/bin/sh", "-c", script), own_environment(), folder))
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_a_killed_supervisor_takes_its_children_along_and_the_next_start_the_rest(
    tmp_path: Path, messages: list[str]
) -> None:
    doomed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _DOOMED, str(tmp_path)), stdout=subprocess.PIPE, cwd=CHECKOUT
    )
    assert doomed.stdout is not None
    await doomed.stdout.readline()
    await until(lambda: _at_work(tmp_path) == 2)  # the child, and one that leaves its session
    doomed.kill()
    await doomed.wait()
    await until(lambda: _at_work(tmp_path) == 1)
    await Supervisor(tmp_path, messages.append).end_leftovers()
    assert list(marked(tmp_path)) == []
    assert messages == ["ending processes that an earlier start left running (1)"]
