"""Starts processes, restarts those that die, and leaves none behind."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.errors import StartError
from deploy.local.files import write_private
from deploy.local.fork_client import ForkClient, Process
from deploy.local.processes import LINUX, MARK, Identity, before_exec, end, marked, signal_group

LOG_LIMIT_BYTES = 10 * 1024 * 1024
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 10.0


@dataclass(frozen=True)
class Program:
    """One process of the system and how to run it.

    `module` is the one that `command` runs, when it can be forked instead: it starts faster then.
    `stage`: later stages stop first. `become` runs in the child before exec (another user).
    `death_signal` is what the kernel sends it when the supervisor itself is killed.
    `before_start` runs in the supervisor before each start, a restart too.
    `namespaces` are files of /proc/PID/ns; a forked `module` runs in what they stand for.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    module: str | None = None
    stage: int = 1
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    stop_seconds: float = 15.0
    become: Callable[[], None] | None = None
    before_start: Callable[[], Awaitable[None]] | None = None
    namespaces: tuple[str, ...] = ()


@dataclass
class _Child:
    program: Program
    process: Process
    born: float = field(default_factory=time.monotonic)
    starts: int = 1
    pause: float = FIRST_PAUSE_SECONDS
    stopping: bool = False
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """The processes of one data folder. `say` is told, in one line, what a person should know."""

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is called after each start of a process: its id is another one."""
        self._folder = folder
        self._on_change = changed
        self._logs = folder / "logs"
        self._record = folder / "processes.json"
        self._say = say
        self._children: dict[str, _Child] = {}
        self._fork_client = ForkClient(folder, own_environment() | {MARK: str(folder)})
        self._changed = asyncio.Condition()

    async def end_leftovers(self) -> None:
        """End what an earlier supervisor of this folder left when it was killed."""
        found = {*_recorded(self._record), *marked(self._folder)}
        running = [process for process in found if process.is_running()]
        if running:
            self._say(f"ending what an earlier start left running ({len(running)})")
            await end(running)
        self._record.unlink(missing_ok=True)

    async def start(self, program: Program) -> None:
        """Start a program and keep it running until `stop`.

        Raises StartError when its file cannot be executed.
        """
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        rotate(self.log_of(program.name))
        if program.before_start is not None:
            await program.before_start()
        child = _Child(program, await self._spawn(program))
        self._children[program.name] = child
        self._remember()
        child.keeper = asyncio.create_task(self._keep(child), name=f"keep {program.name}")

    async def start_all(self, programs: Iterable[Program]) -> None:
        """Start programs at once."""
        await asyncio.gather(*(self.start(program) for program in programs))

    async def stop(self) -> None:
        """Stop everything, the latest stage first, programs of one stage at once."""
        stages = sorted({c.program.stage for c in self._children.values()}, reverse=True)
        for stage in stages:
            chosen = [c for c in self._children.values() if c.program.stage == stage]
            await asyncio.gather(*(self._stop(child) for child in chosen))
        await self._fork_client.close()
        self._children.clear()
        self._record.unlink(missing_ok=True)

    def stop_now(self) -> None:
        """Kill everything at once, for an impatient second Ctrl-C."""
        for child in self._children.values():
            child.stopping = True
            signal_group(child.process.pid, signal.SIGKILL)

    def log_of(self, name: str) -> Path:
        """Return the log file of a program."""
        return self._logs / f"{name}.log"

    def pids(self) -> dict[str, int]:
        """Return the process id of every program that runs now."""
        return {n: c.process.pid for n, c in self._children.items() if _is_alive(c)}

    def starts(self, name: str) -> int:
        """Return how many times a program was started."""
        return self._children[name].starts

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a program's whole process group."""
        signal_group(self._children[name].process.pid, number)

    async def wait_for_start(self, name: str, number: int, *, seconds: float = 60) -> None:
        """Wait until a program was started `number` times. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: self.starts(name) >= number)

    async def run_to_end(self, program: Program) -> int:
        """Run a program to its end with its output in a fresh log, and return its exit code.

        Cancelled, or with us killed, it ends too. Raises StartError.
        """
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log_of(program.name).unlink(missing_ok=True)
        process = await self._spawn(program)
        try:
            return await process.wait()
        except asyncio.CancelledError:
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()
            raise

    async def _spawn(self, program: Program) -> Process:
        log = self.log_of(program.name)
        log.touch(mode=0o600)
        environment = {**program.environment, MARK: str(self._folder)}
        try:
            if program.module is not None and LINUX and program.become is None:
                return await self._fork_client.fork(
                    program.name,
                    program.module,
                    environment,
                    program.directory,
                    log,
                    program.death_signal,
                    program.namespaces,
                )
            return await _execute(program, environment, log)
        except OSError as error:
            raise StartError(
                f"{program.name} cannot be started: {error}",
                f"Its command is: {' '.join(program.command)}",
            ) from error

    async def _keep(self, child: _Child) -> None:
        while True:
            code = await child.process.wait()
            signal_group(child.process.pid, signal.SIGKILL)  # what it may have left of its group
            if child.stopping:
                return
            await self._restart(child, code)

    async def _restart(self, child: _Child, code: int) -> None:
        name = child.program.name
        if time.monotonic() - child.born >= HEALTHY_AFTER_SECONDS:
            child.pause = FIRST_PAUSE_SECONDS
        while not child.stopping:
            self._say(
                f"{name} ended by itself ({_how(code)}); starting it again in "
                f"{child.pause:g} s, see {self.log_of(name)}"
            )
            await asyncio.sleep(child.pause)
            child.pause = min(child.pause * 2, LONGEST_PAUSE_SECONDS)
            if await self._start_again(child):
                return

    async def _start_again(self, child: _Child) -> bool:
        try:
            if child.program.before_start is not None:
                await child.program.before_start()
            child.process = await self._spawn(child.program)
        except (StartError, OSError) as error:
            self._say(str(error))
            return False
        child.born = time.monotonic()
        child.starts += 1
        self._remember()
        async with self._changed:
            self._changed.notify_all()
        return True

    async def _stop(self, child: _Child) -> None:
        child.stopping = True
        await _end_keeper(child)
        if not _is_alive(child):
            return
        signal_group(child.process.pid, child.program.stop_signal)
        try:
            async with asyncio.timeout(child.program.stop_seconds):
                await child.process.wait()
        except TimeoutError:
            self._say(f"{child.program.name} did not stop in time; killing it")
        signal_group(child.process.pid, signal.SIGKILL)
        await child.process.wait()

    def _remember(self) -> None:
        """Write down what runs. A full disk must not end the task that restarts processes."""
        try:
            self._write_record()
        except OSError as error:
            self._say(f"the list of processes cannot be written: {error}")

    def _write_record(self) -> None:
        running = (Identity.of(c.process.pid) for c in self._children.values() if _is_alive(c))
        record = [[p.pid, p.started] for p in running if p is not None]
        write_private(self._record, json.dumps(record))
        self._on_change()


async def _end_keeper(child: _Child) -> None:
    """End the task that restarts; a start it is in the middle of is undone by its cancellation."""
    if child.keeper is None:
        return
    child.keeper.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await child.keeper


def _is_alive(child: _Child) -> bool:
    return child.process.returncode is None


async def _execute(
    program: Program, environment: Mapping[str, str], log: Path
) -> asyncio.subprocess.Process:
    with log.open("ab") as out:
        return await asyncio.create_subprocess_exec(
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=program.directory,
            env=environment,
            start_new_session=True,
            preexec_fn=before_exec(program.death_signal, program.become),
        )


def _how(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def rotate(log: Path) -> None:
    """Set a log aside that grew too long."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def _recorded(record: Path) -> list[Identity]:
    try:
        return [Identity(int(pid), str(started)) for pid, started in json.loads(record.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def own_environment(*keep: str) -> dict[str, str]:
    """Return the part of our environment a child may see: never another stack's settings."""
    wanted = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", *keep}
    return {name: value for name, value in os.environ.items() if name in wanted}
