"""RabbitMQ inside the data folder: the system's own programs, else Debian's packages unpacked."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import aiormq.exceptions

from deploy.local import debian
from deploy.local.errors import StartError
from deploy.local.files import write_private
from deploy.local.postgres import last_line
from deploy.local.supervisor import Program, Supervisor, own_environment

USER = "carnet"
TEST_VIRTUAL_HOSTS = tuple(f"test-{number}" for number in range(8))
START_SECONDS = 120.0
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Installation:
    """Where RabbitMQ and Erlang are; `root` is the unpacked tree, None for the system's own."""

    server: Path
    root: Path | None


@dataclass(frozen=True)
class BrokerPorts:
    """The three ports of one broker, all on 127.0.0.1."""

    amqp: int
    distribution: int
    epmd: int


def find_installation(folder: Path, say: Callable[[str], None]) -> Installation:
    """Return the RabbitMQ to run, unpacking Debian's packages into `folder` if need be.

    Raises StartError when there is neither.
    """
    own = _installed_server()
    if own is not None:
        return Installation(own, None)
    root = folder / "programs"
    if not root.exists():
        if not debian.available():
            raise StartError(
                "RabbitMQ is not installed, and this system has no Debian packages to take it "
                "from.",
                "Install it so that 'rabbitmq-server' is on PATH (macOS: 'brew install rabbitmq'; "
                "Fedora: 'dnf install rabbitmq-server'), or set CARNET_RABBITMQ_URL to a server "
                "of your own, as amqp://user:password@host:5672/",
            )
        debian.unpack_rabbitmq(root, say)
    servers = sorted(root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"))
    if not servers:
        raise StartError(f"{root} holds no RabbitMQ.", f"Remove the folder {root} and start again.")
    return Installation(servers[-1], root)


def _installed_server() -> Path | None:
    """Find the real server script: Debian's one on PATH runs as its own user or not at all."""
    real = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if real and shutil.which("erl"):
        return real[-1]
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


class RabbitMQ:
    """One broker in `<folder>/rabbitmq` with its own epmd, cookie and user."""

    def __init__(
        self,
        folder: Path,
        ports: BrokerPorts,
        *,
        password: str,
        cookie: str,
        say: Callable[[str], None],
    ) -> None:
        self._home = folder / "rabbitmq"
        self._ports = ports
        self._password = password
        self._cookie = cookie
        self._say = say

    @property
    def url(self) -> str:
        """The broker's URL, without a virtual host and without a slash at its end."""
        return f"amqp://{USER}:{self._password}@127.0.0.1:{self._ports.amqp}"

    async def start(self, supervisor: Supervisor) -> None:
        """Unpack, configure and start the broker; wait until it takes connections.

        Raises StartError.
        """
        _localhost_must_resolve()
        self._home.mkdir(mode=0o700, exist_ok=True)
        installation = await asyncio.to_thread(find_installation, self._home, self._say)
        self._configure()
        environment = self._environment(installation)
        await supervisor.start(self._epmd(environment))
        await supervisor.start(self._server(installation, environment))
        await self._wait_until_ready(supervisor)

    def _configure(self) -> None:
        (self._home / "data").mkdir(mode=0o700, exist_ok=True)
        cookie = self._home / ".erlang.cookie"
        write_private(cookie, self._cookie)
        cookie.chmod(0o400)  # Erlang insists
        write_private(self._home / "definitions.json", json.dumps(self._definitions(), indent=2))
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

    def _definitions(self) -> dict[str, object]:
        hosts = ("/", *TEST_VIRTUAL_HOSTS)
        everything = {"user": USER, "configure": ".*", "write": ".*", "read": ".*"}
        return {
            "users": [
                {
                    "name": USER,
                    "password_hash": _password_hash(self._password),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": "administrator",
                }
            ],
            "vhosts": [{"name": host} for host in hosts],
            "permissions": [{**everything, "vhost": host} for host in hosts],
        }

    def _environment(self, installation: Installation) -> dict[str, str]:
        home = self._home
        environment = own_environment() | {
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
        if installation.root is not None:
            environment |= self._unpacked(installation.root, environment["PATH"])
        return environment

    def _unpacked(self, root: Path, path: str) -> dict[str, str]:
        """Make an unpacked tree run: Debian's `erl` knows no place but /usr/lib/erlang."""
        erlang = root / "usr" / "lib" / "erlang"
        runtime = max(erlang.glob("erts-*/bin"))
        programs = self._home / "bin"
        programs.mkdir(exist_ok=True)
        _write_launcher(programs / "erl", erlang, runtime)
        libraries = sorted({str(file.parent) for file in root.glob("usr/lib/*-linux-*/*.so.*")})
        return {
            "PATH": f"{programs}:{runtime}:{erlang / 'bin'}:{path}",
            "ERL_ROOTDIR": str(erlang),
            "LD_LIBRARY_PATH": ":".join(libraries),
        }

    def _epmd(self, environment: dict[str, str]) -> Program:
        """The name server of Erlang, as a child of ours: started by Erlang it would stay behind."""
        found = shutil.which("epmd", path=environment["PATH"])
        bundled = sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))
        if found is None and not bundled:
            raise StartError(
                "RabbitMQ is installed, but Erlang's 'epmd' is not on PATH.",
                "Install Erlang whole, or set CARNET_RABBITMQ_URL to a server of your own.",
            )
        return Program(
            name="epmd",
            command=(found or str(bundled[-1]), "-port", str(self._ports.epmd)),
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
            death_signal=signal.SIGKILL,
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
            connection = await aio_pika.connect(f"{self.url}/", timeout=5)
        except (OSError, TimeoutError, aiormq.exceptions.AMQPError):
            return False
        await connection.close()
        return True


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _write_launcher(file: Path, erlang: Path, runtime: Path) -> None:
    file.write_text(
        "#!/bin/sh\n"
        f"export ROOTDIR='{erlang}' BINDIR='{runtime}' EMU=beam PROGNAME=erl\n"
        'exec "$BINDIR/erlexec" "$@"\n'
    )
    file.chmod(0o755)


def _password_hash(password: str) -> str:
    """Hash as RabbitMQ stores it: four bytes of salt, then SHA-256 of salt and password.

    https://www.rabbitmq.com/docs/passwords
    """
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


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
