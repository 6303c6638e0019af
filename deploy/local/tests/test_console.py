"""Whatever its terminal or pipe does, a supervisor obeys signals and notices ended processes."""

import asyncio
import contextlib
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.console import MOST_WAITING, Console, say_and_log
from deploy.local.processes import Identity, marked
from deploy.local.system import CHECKOUT
from shared.testing import until

pytestmark = pytest.mark.anyio

_PROGRAM = """
import asyncio, fcntl, sys, termios, typer
from pathlib import Path
from deploy.local.console import say
from deploy.local.interrupts import StopRequests, exit_with
from deploy.local.supervisor import Program, Supervisor, own_environment

async def work(interrupts):
    folder = Path(sys.argv[1])
    supervisor = Supervisor(folder, say)
    script = ("/bin/sh", "-c", "trap 'sleep 1; exit' TERM; while :; do sleep 0.02; done")
    requests = StopRequests(supervisor.stop_now, say)
    interrupts.handler = requests.receive
    await supervisor.start(Program("child", script, own_environment(), folder))
    await requests.wait()
    await supervisor.stop()
    (folder / "stopped").touch()
    return 0

if sys.argv[2] == "terminal":
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)
try:
    exit_with(work)
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


async def supervise(
    folder: Path, console: int, kind: str = "pipe", *, before: Callable[[], None] | None = None
) -> asyncio.subprocess.Process:
    """Run a supervisor of one child, its output and errors at `console`, until the child runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, str(folder), kind),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=console,
        stderr=console,
        cwd=CHECKOUT,
        start_new_session=True,
        preexec_fn=before,
    )
    os.close(console)
    await until(lambda: len(children(folder)) == 1)
    return process


def children(folder: Path) -> list[Identity]:
    """The supervised process, by the mark that it carries; without what it runs itself."""
    return [process for process in marked(folder) if leads_its_group(process.pid)]


def leads_its_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


async def assert_restarts(folder: Path) -> None:
    [before] = children(folder)
    os.killpg(before.pid, signal.SIGKILL)
    await until(lambda: any(c != before for c in children(folder)))


async def assert_ends_in_order(folder: Path, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(20):
        assert await process.wait() == 0
    assert (folder / "stopped").exists()
    assert children(folder) == []


@pytest.fixture
def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_pipe_without_a_reader_stops_nothing(
    tmp_path: Path, closed_pipe: int, number: signal.Signals
) -> None:
    process = await supervise(tmp_path, closed_pipe)
    await assert_restarts(tmp_path)
    process.send_signal(number)
    await assert_ends_in_order(tmp_path, process)


async def test_a_full_pipe_without_a_reader_blocks_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    process = await supervise(tmp_path, writer)
    await assert_restarts(tmp_path)
    process.send_signal(signal.SIGTERM)
    await assert_ends_in_order(tmp_path, process)
    os.close(reader)


async def test_a_closed_terminal_ends_it_in_order_even_if_signalled_twice(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = await supervise(tmp_path, theirs, "terminal")
    await assert_restarts(tmp_path)
    os.close(ours)  # the kernel sends SIGHUP, and the terminal answers EIO from now on
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGHUP)  # as a shell does that ends
    await assert_ends_in_order(tmp_path, process)


def ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def test_under_nohup_a_closed_terminal_changes_nothing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = await supervise(
        tmp_path,
        theirs,
        "terminal",
        before=ignore_hangups,
    )
    os.close(ours)
    await assert_restarts(tmp_path)
    process.send_signal(signal.SIGTERM)
    await assert_ends_in_order(tmp_path, process)


async def test_an_impatient_second_request_kills(tmp_path: Path, closed_pipe: int) -> None:
    process = await supervise(tmp_path, closed_pipe)
    [child] = children(tmp_path)
    os.killpg(child.pid, signal.SIGSTOP)  # so that it cannot stop by itself
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # the same key, passed on by another process
    await asyncio.sleep(0.7)
    assert process.returncode is None
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(5):  # the child had 15 seconds
        assert await process.wait() == 0


def read_now(reader: int) -> bytes:
    """Read what a non-blocking pipe holds."""
    received = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(reader, 1 << 20):
            received += chunk
    return received


def test_what_waits_is_bounded_and_what_is_dropped_is_counted() -> None:
    reader, writer = os.pipe()
    console = Console(writer)
    for _ in range(3):
        console.write("x" * 65536)  # more than the pipe holds: the thread waits for a reader
    while select.select([], [writer], [], 0)[1]:
        time.sleep(0.001)
    for number in range(MOST_WAITING + 5):
        console.write(f"line {number}")
    assert not console.drain(0.01)
    os.set_blocking(reader, False)
    received = b""
    while not console.drain(0.01):
        received += read_now(reader)
    console.write("and now")
    assert console.drain(5)
    received += read_now(reader)
    assert b"line 996\n" in received
    assert b"line 997\n" not in received
    assert b"(8 lines were left out here)\n" in received
    os.close(reader)
    os.close(writer)


def test_lines_come_in_order_to_a_reader_that_reads() -> None:
    reader, writer = os.pipe()
    console = Console(writer)
    for number in range(50):
        console.write(str(number))
    assert console.drain(5)
    assert os.read(reader, 4096).decode().split() == [str(n) for n in range(50)]
    os.close(reader)
    os.close(writer)


def test_an_output_that_is_closed_drops_its_lines() -> None:
    console = Console(None)
    console.write("nobody")
    assert console.drain(0)


def test_messages_are_in_a_private_log_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "carnet.log"
    inform = say_and_log(log)
    inform("frail ended by itself")
    assert log.read_text().endswith("Z frail ended by itself\n")
    assert log.stat().st_mode & 0o777 == 0o600
    say_and_log(tmp_path / "no" / "such" / "folder.log")("still said")
