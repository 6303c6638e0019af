"""Starts processes, restarts those that end by themselves, and leaves none behind."""

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
from deploy.local.logs import last_lines
from deploy.local.processes import LINUX, MARK, Identity, before_exec, end, marked, signal_group

LOG_LIMIT_BYTES = 10 * 1024 * 1024
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 10.0


@dataclass(frozen=True)
class Program:
    """One process of the system and how to run it.

    `module`: the module that `command` runs, if it can be forked instead, which starts faster.
    `stage`: later stages stop first. `become`: runs in the child before exec to change the user.
    `death_signal`: the kernel sends it when the supervisor is killed.
    `before_start`: runs in the supervisor before each start and restart.
    `namespaces`: files of /proc/PID/ns; a forked `module` runs in these namespaces.
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
    started: float = field(default_factory=time.monotonic)
    starts: int = 1
    pause: float = FIRST_PAUSE_SECONDS
    stopping: bool = False
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """The processes of one data folder. Calls its argument `say` with each message for the user."""

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is called after each start of a process, which gives it another id."""
        self._folder = folder
        self._on_change = changed
        self._logs = folder / "logs"
        self._record = folder / "processes.json"
        self._say = say
        self._children: dict[str, _Child] = {}
        self._fork_client = ForkClient(folder, own_environment() | {MARK: str(folder)})
        self._changed = asyncio.Condition()

    async def end_leftovers(self) -> None:
        """End processes that an earlier supervisor of this folder left when it was killed."""
        try:
            record = json.loads(self._record.read_text())
            former = [Identity(int(pid), str(started)) for pid, started in record]
        except (OSError, ValueError, TypeError):
            former = []
        leftovers = {*former, *marked(self._folder)}
        running = [process for process in leftovers if process.is_running()]
        if running:
            self._say(f"ending processes that an earlier start left running ({len(running)})")
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
        self._write_record()
        child.keeper = asyncio.create_task(self._keep(child), name=f"keep {program.name}")

    async def start_all(self, programs: Iterable[Program]) -> None:
        """Start several programs at the same time."""
        await asyncio.gather(*(self.start(program) for program in programs))

    async def stop(self) -> None:
        """Stop everything, the latest stage first, the programs of one stage at the same time."""
        stages = sorted({c.program.stage for c in self._children.values()}, reverse=True)
        for stage in stages:
            children = [c for c in self._children.values() if c.program.stage == stage]
            await asyncio.gather(*(self._stop(child) for child in children))
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
        """Return the process ids of the running programs, by name."""
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
        """Run a program to its end with its output in a new log, and return its exit code.

        The program is killed when this call is cancelled or we are killed. Raises StartError.
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

    async def run_successfully(self, program: Program) -> None:
        """Run a program to its end. Raises StartError with the end of its log when it fails."""
        code = await self.run_to_end(program)
        if code != 0:
            log = self.log_of(program.name)
            raise StartError(
                f"{program.name} failed (exit code {code}):\n{last_lines(log)}", f"Read {log}"
            )

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
        """Start a program again, after a growing pause, whenever it ends."""
        name = child.program.name
        while True:
            code = await child.process.wait()
            signal_group(child.process.pid, signal.SIGKILL)  # what may be left of its group
            if time.monotonic() - child.started >= HEALTHY_AFTER_SECONDS:
                child.pause = FIRST_PAUSE_SECONDS
            reason = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
            is_running = False
            while not is_running:
                if child.stopping:
                    return
                self._say(
                    f"{name} ended by itself ({reason}); starting it again in "
                    f"{child.pause:g} s, see {self.log_of(name)}"
                )
                await asyncio.sleep(child.pause)
                child.pause = min(child.pause * 2, LONGEST_PAUSE_SECONDS)
                is_running = await self._start_again(child)

    async def _start_again(self, child: _Child) -> bool:
        try:
            if child.program.before_start is not None:
                await child.program.before_start()
            child.process = await self._spawn(child.program)
        except (StartError, OSError) as error:
            self._say(str(error))
            return False
        child.started = time.monotonic()
        child.starts += 1
        self._write_record()
        async with self._changed:
            self._changed.notify_all()
        return True

    async def _stop(self, child: _Child) -> None:
        child.stopping = True
        if child.keeper is not None:  # cancelled in the middle of a start, it undoes the start
            child.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await child.keeper
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

    def _write_record(self) -> None:
        """Record what runs. A full disk must not end the task that restarts processes."""
        running = (Identity.of(c.process.pid) for c in self._children.values() if _is_alive(c))
        record = [[p.pid, p.started] for p in running if p is not None]
        try:
            write_private(self._record, json.dumps(record))
            self._on_change()
        except OSError as error:
            self._say(f"the list of processes cannot be written: {error}")


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


def rotate(log: Path) -> None:
    """Rename a log that is longer than LOG_LIMIT_BYTES."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def own_environment(*keep: str) -> dict[str, str]:
    """Return the part of our environment that a child may see: never another stack's settings."""
    names = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", *keep}
    return {name: value for name, value in os.environ.items() if name in names}
