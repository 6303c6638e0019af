"""The fork server of `make run`: forks our Python processes from one that imported the libraries.

Eleven processes that import the same libraries need two seconds of processor time each; a fork of
a process that imported them needs none. Only libraries are imported before the fork: our own
modules are imported in the child, so they read the environment of the child.

`deploy.local.fork_client` starts this program and sends it requests over a socket, one line of JSON
each. The answer to a request is `{"number": 1, "pid": 42}` or `{"number": 1, "problem": "…"}`. When
a child ends, the line `{"pid": 42, "code": -9}` follows.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any

from deploy.local.processes import die_with_parent, join

LIBRARIES = (
    "aio_pika",
    "aiohttp",
    "alembic.command",
    "argon2",
    "asyncpg",
    "bcrypt",
    "fastapi",
    "fastapi_offline",
    "fpdf",
    "httpx",
    "joserfc.jwt",
    "limits.aio.storage",
    "limits.aio.strategies",
    "precis_i18n",
    "prometheus_client",
    "pydantic_settings",
    "rfc8785",
    "slugify",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio",
    "stripe",
    "structlog",
    "uuid_utils",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "zxcvbn",
)
"""Libraries that take long to import and start no thread, open no socket, read no setting then."""

# Without it setproctitle overwrites /proc/PID/environ too, where our processes have their mark.
_KEEP_ENVIRONMENT = "SPT_NOENV"
_PR_SET_NAME = 15
_LONGEST_NAME = 15  # of a thread, prctl(2)
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class ForkRequest:
    """A request for a process that runs `module` like `python -m`, in the folder `directory`."""

    number: int
    name: str
    module: str
    environment: dict[str, str]
    directory: str
    log: str
    death_signal: int
    namespaces: list[str]


class ForkServer:
    """Forks one process for each request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._children: set[int] = set()
        self._wake_up, self._alarm = os.pipe()
        for descriptor in (self._wake_up, self._alarm):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._alarm)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the descriptor wakes us
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal

    def serve(self) -> ForkRequest | None:
        """Serve until the client is gone. In a child, return the request that it must run."""
        while True:
            sources: list[socket.socket | int] = [self._connection, self._wake_up]
            ready, _, _ = select.select(sources, [], [])
            if self._wake_up in ready:
                os.read(self._wake_up, 512)
                for pid in list(self._children):
                    ended_pid, status = os.waitpid(pid, os.WNOHANG)
                    if ended_pid:
                        self._children.discard(pid)
                        self._send(pid=pid, code=os.waitstatus_to_exitcode(status))
            if self._connection in ready:
                data = self._connection.recv(65536)
                if not data:
                    return None
                *lines, self._buffer = (self._buffer + data).split(b"\n")
                for line in lines:
                    request = ForkRequest(**json.loads(line))
                    if self._fork(request):
                        return request

    def _fork(self, request: ForkRequest) -> bool:
        """Return whether this is the child."""
        parent = os.getpid()
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            self._send(number=request.number, problem=error.strerror)
            return False
        if pid == 0:
            self._become(request, parent)
            for descriptor in (reader, writer):
                os.close(descriptor)
            return True
        self._children.add(pid)
        os.close(writer)
        os.read(reader, 1)  # returns when the child has its own group, which can be signalled
        os.close(reader)
        self._send(number=request.number, pid=pid)
        return False

    def _become(self, request: ForkRequest, parent: int) -> None:
        """Turn this child into the requested process, as if it had been executed."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._connection.close()
        os.close(self._wake_up)
        os.close(self._alarm)
        for namespace in request.namespaces:
            join(namespace)  # first: a change of privileges undoes what follows
        die_with_parent(parent, signal.Signals(request.death_signal))
        show_title(request.name)
        _LIBC.prctl(_PR_SET_NAME, request.name[:_LONGEST_NAME].encode(), 0, 0, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(request.log, os.O_WRONLY | os.O_APPEND)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(null)
        os.close(log)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]
        os.chdir(request.directory)
        os.environ.clear()
        os.environ.update(request.environment)

    def _send(self, **message: Any) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")


def show_title(name: str) -> None:
    """Have `ps` show this process as, for example, `carnet: vouchers worker 2`.

    Images import this module too and do not have the package setproctitle.
    """
    import setproctitle

    os.environ[_KEEP_ENVIRONMENT] = "1"
    setproctitle.setproctitle(f"carnet: {name.replace('-', ' ')}")


def main() -> None:
    """Serve the connection whose descriptor is the first argument; in a child, run a module."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()  # so that collections in the children do not copy the shared pages
    show_title("fork-server")
    request = ForkServer(connection).serve()
    if request is not None:
        sys.argv[1:] = []
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
