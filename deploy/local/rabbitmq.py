"""RabbitMQ in the data folder, with the system's programs or with unpacked Debian packages."""

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
from deploy.local.logs import last_line
from deploy.local.rabbitmq_installation import Installation, find_installation
from deploy.local.readiness import answers_in_time
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
    """The broker's users and their passwords; `password` is the administrator's."""

    password: str
    users: Sequence[BrokerUser]
    passwords: Mapping[str, str]
    tags: tuple[str, ...] = ()
    """More tags of the administrator."""

    def definitions(self) -> dict[str, list[dict[str, Any]]]:
        """Return what the broker imports at each start."""
        hosts = ("/", *TEST_VIRTUAL_HOSTS)
        base = definitions(self.users, self.passwords, hosts=hosts)
        return with_administrator(base, ADMINISTRATOR, self.password, *self.tags)


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
        """The administrator's URL, without a virtual host and without a slash at the end."""
        return f"amqp://{ADMINISTRATOR}:{self._accounts.password}@127.0.0.1:{self._ports.amqp}"

    async def start(self, supervisor: Supervisor) -> None:
        """Unpack, configure and start the broker; wait until it accepts connections.

        Raises StartError.
        """
        _check_machine(self._home)
        self._home.mkdir(mode=0o700, exist_ok=True)
        installation = await asyncio.to_thread(
            find_installation, self._home, own_environment()["PATH"], self._say
        )
        self._configure()
        self._installation = installation
        epmd, server = self._programs(installation)
        await supervisor.start(epmd)
        await supervisor.start(server)
        if not await answers_in_time(self._answers, "rabbitmq", supervisor, seconds=START_SECONDS):
            log = supervisor.log_of("rabbitmq")
            raise StartError(
                f"RabbitMQ did not start. The last line of its log: {last_line(log)}",
                f"Read {log}; if its data is damaged, move {self._home / 'data'} away.",
            )

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
        settings = {
            "listeners.tcp.default": f"127.0.0.1:{self._ports.amqp}",
            "load_definitions": str(self._home / "definitions.json"),
            "vm_memory_high_watermark.absolute": f"{_memory_limit() // _MIB}MiB",
            "disk_free_limit.absolute": "200MB",
            # The default is half a gigabyte, in memory and on disk.
            "raft.wal_max_size_bytes": str(64 * _MIB),
            "log.file": "false",
            "log.console": "true",
            "log.console.level": "info",
        }
        files = {
            ".erlang.cookie": self._cookie,
            "definitions.json": json.dumps(self._accounts.definitions(), indent=2),
            "rabbitmq.conf": "".join(f"{name} = {value}\n" for name, value in settings.items()),
            "enabled_plugins": "[].\n",
            "rabbitmq-env.conf": "",
        }
        for name, text in files.items():
            write_private(self._home / name, text)
        (self._home / ".erlang.cookie").chmod(0o400)  # Erlang requires this

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
            # With "input allowed" the script executes the server instead of waiting for it, so
            # signals reach the server itself.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} "
                # Idle schedulers sleep instead of busy waiting.
                "+sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }
        return {**environment, **installation.environment}

    def _programs(self, installation: Installation) -> tuple[Program, Program]:
        """Return epmd, Erlang's name server, and the broker.

        If Erlang started epmd, it would outlive the stack.
        """
        environment = self._environment(installation)
        epmd = Program(
            name="epmd",
            command=(str(installation.epmd), "-port", str(self._ports.epmd)),
            environment=environment,
            directory=self._home,
            stage=-1,
        )
        server = Program(
            name="rabbitmq",
            command=(str(installation.server),),
            environment=environment,
            directory=self._home,
            stage=0,
            stop_seconds=30,
        )
        return epmd, server

    async def _answers(self) -> bool:
        try:
            # aio_pika logs a refused connection, so a plain connection is tried first.
            _, writer = await asyncio.open_connection("127.0.0.1", self._ports.amqp)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            async with bus.connected(f"{self.url}/", name="is it ready"):
                return True
        except (OSError, TimeoutError, aiormq.exceptions.AMQPError):
            return False


async def check_broker(url: str) -> None:
    """Sign in to the operator's own broker. Raises StartError when that fails."""
    try:
        async with bus.connected(url, name="can it be used"):
            pass
    except (OSError, TimeoutError, ValueError, aiormq.exceptions.AMQPError) as error:
        reason = str(error) or type(error).__name__
        raise StartError(
            f"The broker of CARNET_RABBITMQ_URL cannot be used as {bus.user_of(url)}: {reason}",
            "Check its address, user, password and virtual host: amqp://user:password@host:5672/",
        ) from error


def _memory_limit() -> int:
    """Return the bytes at which the broker blocks publishers: a quarter of the memory, bounded."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no cgroup, or "max"
            memory = min(memory, int(Path(limit).read_text()))
    return min(max(memory // 4, 256 * _MIB), 2048 * _MIB)


def _check_machine(home: Path) -> None:
    """Check what RabbitMQ's scripts need: the name localhost, and a simple path."""
    try:
        socket.gethostbyname("localhost")
    except OSError as error:
        raise StartError(
            "This machine cannot resolve 'localhost', the name of RabbitMQ's node.",
            "Add the line '127.0.0.1 localhost' to /etc/hosts.",
        ) from error
    if not re.fullmatch(r"[^\s'\"\\$`*?\[\]]+", str(home)):
        raise StartError(
            f"The path of the data folder {home.parent} has a space, a quote or another special "
            "character, which RabbitMQ's scripts do not support.",
            "Set CARNET_DATA to a folder without one, as CARNET_DATA=~/.local/share/carnet",
        )
