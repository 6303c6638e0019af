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
from typing import Protocol

from deploy.local.fork_server import ForkRequest
from deploy.local.processes import before_exec, signal_group


class Process(Protocol):
    """What a supervisor needs of a process, executed or forked."""

    @property
    def pid(self) -> int:
        """Its id, which is also the id of its group."""

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
        self._end = asyncio.Event()

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        await self._end.wait()
        return self.returncode or 0

    def end(self, code: int) -> None:
        """Record that the process has ended."""
        self.returncode = code
        self._end.set()


class ForkClient:
    """Requests processes from the fork server, which is started with the first request.

    If the fork server is killed, its children end with it, are reported as killed, and the next
    request starts another fork server.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._numbers = count(1)
        self._requests: dict[int, asyncio.Future[ForkedProcess]] = {}
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
        """Run a module in a process of its own. Raises OSError when none can be forked.

        If the call is cancelled, no process is left.
        """
        async with self._starting:
            if self._listener is None or self._listener.done() or self._writer is None:
                self._writer = await self._start()
        request = ForkRequest(
            next(self._numbers),
            name,
            module,
            dict(environment),
            str(directory),
            str(log),
            int(death_signal),
            list(namespaces),
        )
        response: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
        self._requests[request.number] = response
        self._writer.write(json.dumps(asdict(request)).encode() + b"\n")
        try:
            return await asyncio.shield(response)
        except asyncio.CancelledError:
            response.add_done_callback(_kill)
            raise

    async def close(self) -> None:
        """End the fork server. Its children must have ended before."""
        if self._server is None or self._writer is None or self._listener is None:
            return
        self._writer.close()
        await self._server.wait()
        await self._listener
        self._server = None

    async def _start(self) -> asyncio.StreamWriter:
        own_end, server_end = socket.socketpair()
        with server_end:
            self._server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "deploy.local.fork_server", str(server_end.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                env=dict(self._environment),
                cwd=self._folder,
                pass_fds=(server_end.fileno(),),
                start_new_session=True,
                preexec_fn=before_exec(signal.SIGKILL),
            )
        reader, writer = await asyncio.open_connection(sock=own_end)
        self._listener = asyncio.create_task(self._listen(reader, writer), name="fork server")
        return writer

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle the messages of one fork server until it ends."""
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                message = json.loads(line)
                if "code" in message:
                    self._children.pop(message["pid"]).end(message["code"])
                elif "problem" in message:
                    error = OSError(message["problem"])
                    self._requests.pop(message["number"]).set_exception(error)
                else:
                    child = self._children[message["pid"]] = ForkedProcess(message["pid"])
                    self._requests.pop(message["number"]).set_result(child)
        writer.close()
        for child in self._children.values():
            child.end(-signal.SIGKILL)
        self._children.clear()
        for response in self._requests.values():
            response.set_exception(OSError("the fork server has ended"))
        self._requests.clear()


def _kill(response: asyncio.Future[ForkedProcess]) -> None:
    """Kill the process of a request that was cancelled."""
    if response.exception() is None:
        signal_group(response.result().pid, signal.SIGKILL)
