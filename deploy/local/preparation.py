"""What a database needs before the processes start: itself, roles, schemas, migrations, an admin.

What was done is remembered with a fingerprint of the code and of the database, so that a start
without changes skips it all.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from deploy.local.errors import StartError
from deploy.local.files import write_private
from deploy.local.postgres import last_line
from deploy.local.settings import PREPARED_FILE
from deploy.local.supervisor import Supervisor
from deploy.local.system import CHECKOUT, SERVICES, System
from shared.db import make_engine
from shared.maintenance import Notice, find_notice
from shared.provisioning import provision
from shared.settings import asyncpg_url

EMBEDDED_DATABASE = "carnet"
UNUSABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    ValueError,
)


async def ensure_database(url: str) -> None:
    """Create the database that an administrator's URL names, if its server lacks it.

    Raises StartError when the server cannot be reached or refuses.
    """
    parsed = make_url(url)
    try:
        if await _exists(url):
            return
        connection = await asyncpg.connect(_with_database(url, "postgres"), timeout=10)
        try:
            name = await connection.fetchval("SELECT quote_ident($1::text)", parsed.database)
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        finally:
            await connection.close()
    except UNUSABLE as error:
        raise StartError(
            f"The database server at {parsed.host}:{parsed.port or 5432} cannot be used: {error}",
            "Check CARNET_DATABASE_URL: address, password, and that its user may create roles "
            "and databases.",
        ) from error


async def _exists(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except asyncpg.InvalidCatalogNameError:
        return False
    await connection.close()
    return True


def _with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@dataclass(frozen=True)
class Administrator:
    """The first administrator as the database has it.

    `made`: by this start. `password_matches`: the password that this start knows is theirs.
    """

    email: str
    made: bool
    password_matches: bool


class Preparation:
    """Brings the database of a system to where its processes can start."""

    def __init__(
        self,
        folder: Path,
        system: System,
        admin: tuple[str, str],
        supervisor: Supervisor,
        say: Callable[[str], None],
    ) -> None:
        self._done_file = folder / PREPARED_FILE
        self._outcome_file = folder / "administrator.json"
        self._system = system
        self._supervisor = supervisor
        self._admin = admin
        self._say = say

    async def run(self) -> Administrator:
        """Do what is not done yet and return who the first administrator is. Raises StartError."""
        await self._require_no_notice()
        done, wanted = _read(self._done_file), await self._wanted()
        known = _administrator(done.pop("administrator", None)) if done else None
        if done == wanted and known is not None:
            return known
        self._done_file.unlink(missing_ok=True)
        self._say("preparing the database: roles, schemas, migrations, the first admin")
        await self._provision()
        await asyncio.gather(*(self._migrate(service) for service in SERVICES))
        administrator = await self._bootstrap()
        done = {**await self._wanted(), "administrator": asdict(replace(administrator, made=False))}
        write_private(self._done_file, json.dumps(done, indent=2))
        return administrator

    async def _require_no_notice(self) -> None:
        """Refuse as each of the processes would, but before any of them is started."""
        found = await asyncio.gather(*(_notice(self._system.role_url(name)) for name in SERVICES))
        for notice in found:
            if notice is not None:
                raise StartError(notice.reason, notice.remedy)

    async def _provision(self) -> None:
        for name, secret in self._system.credentials.items():
            try:
                await provision(
                    self._system.database_url,
                    name,
                    password=secret.password,
                    owner_password=secret.owner_password,
                )
            except UNUSABLE as error:
                raise StartError(
                    f"The database roles of '{name}' cannot be made: {error}",
                    "The user of CARNET_DATABASE_URL must be allowed to create roles and schemas.",
                ) from error

    async def _migrate(self, service: str) -> None:
        await self._once(
            f"{service}-migrate", f"services.{service}.migrate", self._system.one_off(service)
        )

    async def _bootstrap(self) -> Administrator:
        email, password = self._admin
        environment = self._system.one_off(
            "identity",
            IDENTITY_ADMIN_EMAIL=email,
            IDENTITY_ADMIN_PASSWORD=password,
            IDENTITY_ADMIN_OUTCOME_FILE=str(self._outcome_file),
        )
        await self._once("identity-bootstrap", "services.identity.bootstrap", environment)
        administrator = _administrator(_read(self._outcome_file))
        self._outcome_file.unlink(missing_ok=True)
        if administrator is None:
            raise StartError(
                "The first administrator's address was not reported.",
                f"Read {self._supervisor.log_of('identity-bootstrap')}",
            )
        return administrator

    async def _once(self, name: str, module: str, environment: Mapping[str, str]) -> None:
        program = self._system.own_program(name, module, environment)
        code = await self._supervisor.run_to_end(program)
        if code != 0:
            log = self._supervisor.log_of(name)
            raise StartError(f"{name} failed (exit code {code}): {last_line(log)}", f"Read {log}")

    async def _wanted(self) -> dict[str, Any]:
        """Describe what is to be true: code, database as it is now, credentials, admin."""
        return {
            "code": _code(),
            "database": await _state(self._system),
            "credentials": _digest(repr(sorted(self._system.credentials.items()))),
            "admin": _digest(repr(self._admin)),
        }


async def _state(system: System) -> dict[str, list[Any] | None]:
    """Return for each service, if it can sign in, which database that is and its revision."""
    found = await asyncio.gather(*(_revision(system.role_url(service)) for service in SERVICES))
    return dict(zip(SERVICES, found, strict=True))


async def _revision(url: str) -> list[Any] | None:
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            row = await connection.fetchrow(
                "SELECT oid, (SELECT max(version_num) FROM alembic_version)"
                " FROM pg_database WHERE datname = current_database()"
            )
        finally:
            await connection.close()
    except UNUSABLE:  # no such role yet, another password, nothing migrated
        return None
    return list(row)


async def _notice(url: str) -> Notice | None:
    engine = make_engine(asyncpg_url(SecretStr(url)), pool_size=1)
    try:
        return await find_notice(engine)
    except (DBAPIError, OSError, TimeoutError):  # no such role yet, or another password
        return None
    finally:
        await engine.dispose()


def _code() -> str:
    """Return a digest of everything that decides what the preparation does."""
    sources = [
        *CHECKOUT.glob("shared/*.py"),
        *(CHECKOUT / "services").glob("*/migrations/**/*.py"),
        *(CHECKOUT / "services").glob("*/*.py"),
    ]
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(f"{source.relative_to(CHECKOUT)}\0".encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _administrator(stored: Any) -> Administrator | None:
    try:
        return Administrator(**stored)
    except TypeError:
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None
