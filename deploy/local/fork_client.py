"""The client of the fork server: it requests a process for one of our modules."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from deploy.local.fork_server import ForkRequest
from deploy.local.processes import before_exec, signal_group


class Process(Protocol):
    """What a supervisor needs of a process, however it was born."""

    @property
    def pid(self) -> int:
        """Its id, which is also that of its group."""

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""


class ForkedProcess:
    """A child of the fork server."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        await self._ended.wait()
        return self.returncode or 0

    def end(self, code: int) -> None:
        """Note that it has ended."""
        self.returncode = code
        self._ended.set()


class ForkClient:
    """The supervisor's side of the fork server, which is started with the first request.

    Should the fork server be killed, its children die with it, are said to be killed, and the next
    request starts another one.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[ForkedProcess]] = {}
        self._children: dict[int, ForkedProcess] = {}
        self._starting = asyncio.Lock()
        self._server: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None

    async def fork(
        self,
        name: str,
        module: str,
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
        death_signal: signal.Signals,
        namespaces: Sequence[str] = (),
    ) -> ForkedProcess:
        """Run a module in a process of its own. Raises OSError when there can be none.

        Cancelled, it leaves no process behind.
        """
        writer = await self._connected()
        number = next(self._numbers)
        request = ForkRequest(
            number,
            name,
            module,
            dict(environment),
            str(directory),
            str(log),
            int(death_signal),
            list(namespaces),
        )
        born: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
        self._asked[number] = born
        writer.write(json.dumps(asdict(request)).encode() + b"\n")
        try:
            return await asyncio.shield(born)
        except asyncio.CancelledError:
            born.add_done_callback(_unwanted)
            raise

    async def close(self) -> None:
        """End the fork server, whose children have ended before."""
        if self._server is None or self._writer is None or self._listener is None:
            return
        self._writer.close()
        await self._server.wait()
        await self._listener
        self._server = None

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._starting:
            if self._listener is None or self._listener.done() or self._writer is None:
                self._writer = await self._start()
        return self._writer

    async def _start(self) -> asyncio.StreamWriter:
        ours, theirs = socket.socketpair()
        with theirs:
            self._server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "deploy.local.fork_server", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                env=dict(self._environment),
                cwd=self._folder,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                preexec_fn=before_exec(signal.SIGKILL),
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        self._listener = asyncio.create_task(self._listen(reader, writer), name="fork server")
        return writer

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self._hear(json.loads(line))
        writer.close()
        for child in self._children.values():
            child.end(-signal.SIGKILL)
        self._children.clear()
        for asked in self._asked.values():
            asked.set_exception(OSError("the process that others are forked from has ended"))
        self._asked.clear()

    def _hear(self, message: dict[str, Any]) -> None:
        if "code" in message:
            self._children.pop(message["pid"]).end(message["code"])
            return
        asked = self._asked.pop(message["number"])
        if "problem" in message:
            asked.set_exception(OSError(message["problem"]))
            return
        child = self._children[message["pid"]] = ForkedProcess(message["pid"])
        asked.set_result(child)


def _unwanted(born: asyncio.Future[ForkedProcess]) -> None:
    if born.exception() is None:
        signal_group(born.result().pid, signal.SIGKILL)
