"""RabbitMQ inside the data folder: the system's own programs, else Debian's packages unpacked."""

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiormq.exceptions

from deploy.local.errors import StartError
from deploy.local.files import write_private
from deploy.local.postgres import last_line
from deploy.local.rabbitmq_installation import Installation, find_installation
from deploy.local.supervisor import Program, Supervisor, own_environment
from shared import bus
from shared.broker_access import BrokerUser, definitions, with_administrator

ADMINISTRATOR = "carnet"
TEST_VIRTUAL_HOSTS = tuple(f"test-{number}" for number in range(8))
START_SECONDS = 120.0
_MIB = 1024 * 1024


@dataclass(frozen=True)
class BrokerPorts:
    """The three ports of one broker, all on 127.0.0.1."""

    amqp: int
    distribution: int
    epmd: int


@dataclass(frozen=True)
class Accounts:
    """The broker's users and their passwords; its administrator's name is ours to choose."""

    password: str
    users: Sequence[BrokerUser]
    passwords: Mapping[str, str]
    tags: tuple[str, ...] = ()
    """The administrator's, beside that of an administrator."""

    def definitions(self) -> dict[str, list[dict[str, Any]]]:
        """Return what the broker imports at each start."""
        hosts = ("/", *TEST_VIRTUAL_HOSTS)
        found = definitions(self.users, self.passwords, hosts=hosts)
        return with_administrator(found, ADMINISTRATOR, self.password, *self.tags)


class RabbitMQ:
    """One broker in `<folder>/rabbitmq` with its own epmd, cookie and users."""

    def __init__(
        self,
        folder: Path,
        ports: BrokerPorts,
        *,
        accounts: Accounts,
        cookie: str,
        say: Callable[[str], None],
    ) -> None:
        self._home = folder / "rabbitmq"
        self._ports = ports
        self._accounts = accounts
        self._cookie = cookie
        self._say = say
        self._installation: Installation | None = None

    @property
    def url(self) -> str:
        """The administrator's URL, without a virtual host and without a slash at its end."""
        return f"amqp://{ADMINISTRATOR}:{self._accounts.password}@127.0.0.1:{self._ports.amqp}"

    async def start(self, supervisor: Supervisor) -> None:
        """Unpack, configure and start the broker; wait until it takes connections.

        Raises StartError.
        """
        _localhost_must_resolve()
        _path_must_be_plain(self._home)
        self._home.mkdir(mode=0o700, exist_ok=True)
        installation = await asyncio.to_thread(
            find_installation, self._home, own_environment()["PATH"], self._say
        )
        self._configure()
        self._installation = installation
        environment = self._environment(installation)
        await supervisor.start(self._epmd(installation, environment))
        await supervisor.start(self._server(installation, environment))
        await self._wait_until_ready(supervisor)

    async def control(self, supervisor: Supervisor, *arguments: str) -> int:
        """Run rabbitmqctl against the started broker and return its exit code."""
        assert self._installation is not None, "the broker was started"
        program = Program(
            name="rabbitmqctl",
            command=(str(self._installation.server.with_name("rabbitmqctl")), *arguments),
            environment=self._environment(self._installation),
            directory=self._home,
        )
        return await supervisor.run_to_end(program)

    def _configure(self) -> None:
        (self._home / "data").mkdir(mode=0o700, exist_ok=True)
        cookie = self._home / ".erlang.cookie"
        write_private(cookie, self._cookie)
        cookie.chmod(0o400)  # Erlang insists
        write_private(
            self._home / "definitions.json", json.dumps(self._accounts.definitions(), indent=2)
        )
        write_private(self._home / "rabbitmq.conf", self._configuration())
        write_private(self._home / "enabled_plugins", "[].\n")
        write_private(self._home / "rabbitmq-env.conf", "")

    def _configuration(self) -> str:
        lines = {
            "listeners.tcp.default": f"127.0.0.1:{self._ports.amqp}",
            "load_definitions": str(self._home / "definitions.json"),
            "vm_memory_high_watermark.absolute": f"{_memory_limit() // _MIB}MiB",
            "disk_free_limit.absolute": "200MB",
            # Half a gigabyte by default, kept in memory as well as on disk.
            "raft.wal_max_size_bytes": str(64 * _MIB),
            "log.file": "false",
            "log.console": "true",
            "log.console.level": "info",
        }
        return "".join(f"{name} = {value}\n" for name, value in lines.items())

    def _environment(self, installation: Installation) -> dict[str, str]:
        home = self._home
        environment = {
            **own_environment(),
            "HOME": str(home),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._ports.epmd),
            "RABBITMQ_NODENAME": "carnet@localhost",
            "RABBITMQ_DIST_PORT": str(self._ports.distribution),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            # With "input allowed" the script becomes the server instead of waiting for it, so
            # signals, ours and the kernel's, reach the server itself.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} "
                # Idle schedulers sleep instead of spinning: the machine has other work.
                "+sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }
        return {**environment, **installation.environment}

    def _epmd(self, installation: Installation, environment: dict[str, str]) -> Program:
        """The name server of Erlang, as a child of ours: started by Erlang it would stay behind."""
        return Program(
            name="epmd",
            command=(str(installation.epmd), "-port", str(self._ports.epmd)),
            environment=environment,
            directory=self._home,
            stage=-1,
        )

    def _server(self, installation: Installation, environment: dict[str, str]) -> Program:
        return Program(
            name="rabbitmq",
            command=(str(installation.server),),
            environment=environment,
            directory=self._home,
            stage=0,
            stop_seconds=30,
        )

    async def _wait_until_ready(self, supervisor: Supervisor) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while supervisor.starts("rabbitmq") < 3:
                    if await self._answers():
                        return
                    await asyncio.sleep(0.1)
        log = supervisor.log_of("rabbitmq")
        raise StartError(
            f"RabbitMQ did not start. Its last words: {last_line(log)}",
            f"Read {log}; if its data is damaged, move {self._home / 'data'} away to begin anew.",
        )

    async def _answers(self) -> bool:
        # A quick look first: a connection refused inside aio_pika is noisy in its logs.
        if not await _listens(self._ports.amqp):
            return False
        try:
            async with bus.connected(f"{self.url}/", name="is it ready"):
                return True
        except (OSError, TimeoutError, aiormq.exceptions.AMQPError):
            return False


async def check_broker(url: str) -> None:
    """Sign in to a broker of the user's own. Raises StartError when that fails."""
    try:
        async with bus.connected(url, name="can it be used"):
            pass
    except (OSError, TimeoutError, ValueError, aiormq.exceptions.AMQPError) as error:
        reason = str(error) or type(error).__name__
        raise StartError(
            f"The broker of CARNET_RABBITMQ_URL cannot be used as {bus.user_of(url)}: {reason}",
            "Check its address, user, password and virtual host: amqp://user:password@host:5672/",
        ) from error


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _memory_limit() -> int:
    """Return the bytes at which the broker blocks publishers: a quarter of the memory, bounded."""
    return min(max(_memory() // 4, 256 * _MIB), 2048 * _MIB)


def _memory() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no cgroup, or "max"
            total = min(total, int(Path(limit).read_text()))
    return total


def _localhost_must_resolve() -> None:
    try:
        socket.gethostbyname("localhost")
    except OSError as error:
        raise StartError(
            "This machine cannot resolve 'localhost', the name RabbitMQ's node gets.",
            "Add the line '127.0.0.1 localhost' to /etc/hosts.",
        ) from error


def _path_must_be_plain(folder: Path) -> None:
    if re.fullmatch(r"[^\s'\"\\$`*?\[\]]+", str(folder)):
        return
    raise StartError(
        f"The data folder {folder.parent} has a space or a quote in its path, which RabbitMQ's "
        "own scripts do not bear.",
        "Set CARNET_DATA to a folder without, for instance CARNET_DATA=~/.local/share/carnet",
    )
