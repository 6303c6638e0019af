"""The environment of measurements: servers, databases and processes, each on its cores."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from pydantic import SecretStr

from deploy.local.errors import StartError
from deploy.local.logs import last_line
from deploy.local.ports import Ports
from deploy.local.processes import before_exec, signal_group
from deploy.local.servers import Servers, running_servers
from deploy.local.supervisor import own_environment
from deploy.local.system import CHECKOUT
from deploy.proof.bench.cores import Cores, pinned_to
from shared import migrations
from shared.provisioning import database_url, in_database, provision
from shared.settings import asyncpg_url

START_SECONDS = 30.0
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Scale:
    """The sizes of measurements.

    `seconds` is the duration of a run of load, `events` the number of events in a run, `vouchers`
    the size of the large database, `users` the size of version 1's database, and `million` the
    number of waiting events in the soak.
    """

    quick: bool
    seconds: float
    events: int
    vouchers: int
    users: int
    million: int

    @classmethod
    def of(
        cls, *, quick: bool = False, vouchers: int | None = None, users: int | None = None
    ) -> "Scale":
        """Return the usual sizes, or small ones that only check that everything works."""
        if quick:
            return cls(True, 4.0, 4_000, vouchers or 20_000, users or 2_000, 50_000)
        return cls(False, 6.0, 20_000, vouchers or 1_000_000, users or 200_000, 1_000_000)


@dataclass(frozen=True)
class BenchProcess:
    """A running process, and the file of its output."""

    pid: int
    log: Path


@dataclass(frozen=True)
class BenchDatabase:
    """A migrated database of one service."""

    service: str
    admin_url: str
    password: str

    @property
    def url(self) -> SecretStr:
        """The address as the service's role."""
        return SecretStr(database_url(self.admin_url, self.service, self.password))

    @property
    def owner_url(self) -> SecretStr:
        """The address as the schema's owner."""
        owner = database_url(self.admin_url, f"{self.service}_owner", self.password)
        return asyncpg_url(SecretStr(owner))

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield a superuser's connection with the service's schema in its search_path."""
        connection = await asyncpg.connect(self.admin_url)
        try:
            await connection.execute(f'SET search_path = "{self.service}"')
            yield connection
        finally:
            await connection.close()


class BenchEnvironment:
    """Servers, databases and processes. This process and all servers stay off the tested core."""

    def __init__(
        self,
        folder: Path,
        cores: Cores,
        scale: Scale,
        say: Callable[[str], None],
        stack: AsyncExitStack,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.cores = cores
        self.scale = scale
        self.say = say
        self.ports = Ports(folder / "bench-ports.json")
        self._stack = stack
        self._servers: Servers | None = None

    async def servers(self) -> Servers:
        """Return PostgreSQL, durable as in production, and RabbitMQ; start them once."""
        if self._servers is None:
            self._servers = await self._stack.enter_async_context(
                running_servers(self.folder / "servers", self.say, durable=True)
            )
        return self._servers

    async def database(self, service: str, *, name: str | None = None) -> BenchDatabase:
        """Return a service's migrated database: empty, or an existing one by `name`."""
        servers = await self.servers()
        database_name = name or f"bench_{service}"
        url = in_database(servers.database_url, database_name)
        database = BenchDatabase(service, url, "bench")
        connection = await asyncpg.connect(servers.database_url)
        try:
            exists = await connection.fetchval(
                "SELECT 1 FROM pg_database WHERE datname=$1", database_name
            )
            if name is None:
                await connection.execute(f'DROP DATABASE IF EXISTS "{database_name}" WITH (FORCE)')
            if name is None or not exists:
                await connection.execute(f'CREATE DATABASE "{database_name}"')
        finally:
            await connection.close()
        await provision(url, service, password="bench", owner_password="bench")  # noqa: S106
        await migrations.upgrade(f"services.{service}", database.owner_url)
        return database

    @contextlib.contextmanager
    def on_all_cores(self) -> Iterator[None]:
        """Let this process, and those started during the block, use the tested core too."""
        os.sched_setaffinity(0, self.cores.all)
        try:
            yield
        finally:
            os.sched_setaffinity(0, self.cores.others)

    @asynccontextmanager
    async def process(
        self,
        name: str,
        command: Sequence[str],
        variables: Mapping[str, str] | None = None,
        *,
        tested: bool = True,
        ready: str | None = None,
    ) -> AsyncIterator[BenchProcess]:
        """Run a process on the tested core, or on this process's cores.

        `ready` is a URL to wait for. Raises StartError if the process ends or does not answer.
        """
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        child = await self._spawn(log, command, variables or {}, tested=tested)
        try:
            if ready is not None:
                await _wait_until_ready(ready, child, log, name)
            yield BenchProcess(child.pid, log)
        finally:
            await _end(child)

    async def task(self, name: str, arguments: Mapping[str, Any]) -> dict[str, float]:
        """Run a task of `tasks.py` on the tested core; return its figures.

        Raises StartError if it fails.
        """
        command = (sys.executable, "-m", "deploy.proof.bench.tasks", name, json.dumps(arguments))
        out = await self.output(command, name=f"task-{name}", tested=True)
        # The lines before the last one are logs of libraries.
        figures: dict[str, float] = json.loads(out.splitlines()[-1])
        return figures

    async def output(
        self,
        command: Sequence[str],
        *,
        name: str | None = None,
        variables: Mapping[str, str] | None = None,
        tested: bool = False,
    ) -> str:
        """Run a command to its end and return what it printed. Raises StartError.

        `name` is that of the log and of the command in errors.
        """
        name = name or Path(command[0]).name
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        child = await self._spawn(log, command, variables or {}, tested=tested, answer=True)
        try:
            out, _ = await child.communicate()
        finally:
            await _end(child)
        if child.returncode != 0:
            raise StartError(f"{name} failed: {last_line(log)}", f"Read {log}.")
        return out.decode()

    async def _spawn(
        self,
        log: Path,
        command: Sequence[str],
        variables: Mapping[str, str],
        *,
        tested: bool,
        answer: bool = False,
    ) -> asyncio.subprocess.Process:
        cores = self.cores.tested if tested else frozenset(os.sched_getaffinity(0))
        with log.open("wb") as out:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if answer else out,
                stderr=out,
                cwd=CHECKOUT,
                env={**own_environment("LD_LIBRARY_PATH"), **variables},
                start_new_session=True,
                preexec_fn=pinned_to(cores, before_exec(signal.SIGKILL)),
            )


@asynccontextmanager
async def prepared_environment(
    folder: Path, scale: Scale, say: Callable[[str], None]
) -> AsyncIterator[BenchEnvironment]:
    """Yield the environment; stop its servers at the end."""
    cores = Cores.of_this_machine()
    os.sched_setaffinity(0, cores.others)
    try:
        async with AsyncExitStack() as stack:
            yield BenchEnvironment(folder, cores, scale, say, stack)
    finally:
        os.sched_setaffinity(0, cores.all)


def word() -> str:
    """Return a random word."""
    return secrets.token_hex(4)


async def _wait_until_ready(
    address: str, child: asyncio.subprocess.Process, log: Path, name: str
) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(timeout=2) as client:
            while child.returncode is None:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(address)).status_code == 200:
                        return
                await asyncio.sleep(0.1)
    raise StartError(f"{name} did not start: {last_line(log)}", f"Read {log}.")


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await child.wait()
    signal_group(child.pid, signal.SIGKILL)
    await child.wait()
