"""Prepares a database for the processes: roles, schemas, migrations, the first administrator.

The result is stored with a fingerprint of the code and of the database, so that a start without
changes skips the preparation.
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
from deploy.local.settings import PREPARED_FILE
from deploy.local.supervisor import Supervisor
from deploy.local.system import CHECKOUT, SERVICES, System
from shared.db import make_engine
from shared.maintenance import MaintenanceNotice, find_notice
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
    """Create the database of an administrator's URL if its server does not have it.

    Raises StartError when the server cannot be reached or refuses.
    """
    parsed = make_url(url)
    try:
        try:
            await (await asyncpg.connect(url, timeout=10)).close()
        except asyncpg.InvalidCatalogNameError:
            default = parsed.set(database="postgres").render_as_string(hide_password=False)
            connection = await asyncpg.connect(default, timeout=10)
            try:
                name = await connection.fetchval("SELECT quote_ident($1::text)", parsed.database)
                await connection.execute(
                    f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
                )
            finally:
                await connection.close()
    except UNUSABLE as error:
        raise StartError(
            f"The database server at {parsed.host}:{parsed.port or 5432} cannot be used: {error}",
            "Check CARNET_DATABASE_URL: address, password, and that its user may create roles "
            "and databases.",
        ) from error


@dataclass(frozen=True)
class Administrator:
    """The first administrator as the database has it.

    `made`: created by this start. `password_matches`: the password that this start knows is right.
    """

    email: str
    made: bool
    password_matches: bool


class Preparation:
    """Prepares the database of a system so that its processes can start."""

    def __init__(
        self,
        folder: Path,
        system: System,
        admin: tuple[str, str],
        supervisor: Supervisor,
        say: Callable[[str], None],
    ) -> None:
        self._state_file = folder / PREPARED_FILE
        self._outcome_file = folder / "administrator.json"
        self._system = system
        self._supervisor = supervisor
        self._admin = admin
        self._say = say

    async def run(self) -> Administrator:
        """Prepare what is not prepared yet; return the first administrator. Raises StartError."""
        urls = [self._system.role_url(service) for service in SERVICES]
        for notice in await asyncio.gather(*(_find_notice(url) for url in urls)):
            if notice is not None:  # each process would refuse to start
                raise StartError(notice.reason, notice.remedy)
        stored_state = _read(self._state_file) or {}
        administrator = _administrator(stored_state.pop("administrator", None))
        if administrator is not None and stored_state == await self._present_state():
            return administrator
        self._state_file.unlink(missing_ok=True)
        self._say("preparing the database: roles, schemas, migrations, the first administrator")
        await self._provision()
        await asyncio.gather(
            *(
                self._run(f"{name}-migrate", f"services.{name}.migrate", self._system.one_off(name))
                for name in SERVICES
            )
        )
        administrator = await self._bootstrap()
        state = {
            **await self._present_state(),
            "administrator": asdict(replace(administrator, made=False)),
        }
        write_private(self._state_file, json.dumps(state, indent=2))
        return administrator

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
                    f"The database roles of '{name}' cannot be created: {error}",
                    "The user of CARNET_DATABASE_URL must be allowed to create roles and schemas.",
                ) from error

    async def _bootstrap(self) -> Administrator:
        email, password = self._admin
        environment = self._system.one_off(
            "identity",
            IDENTITY_ADMIN_EMAIL=email,
            IDENTITY_ADMIN_PASSWORD=password,
            IDENTITY_ADMIN_OUTCOME_FILE=str(self._outcome_file),
        )
        await self._run("identity-bootstrap", "services.identity.bootstrap", environment)
        administrator = _administrator(_read(self._outcome_file))
        self._outcome_file.unlink(missing_ok=True)
        if administrator is None:
            raise StartError(
                "The address of the first administrator was not reported.",
                f"Read {self._supervisor.log_of('identity-bootstrap')}",
            )
        return administrator

    async def _run(self, name: str, module: str, environment: Mapping[str, str]) -> None:
        program = self._system.own_program(name, module, environment)
        await self._supervisor.run_successfully(program)

    async def _present_state(self) -> dict[str, Any]:
        """Describe what the preparation depends on: code, databases, credentials, administrator."""
        urls = [self._system.role_url(service) for service in SERVICES]
        revisions = await asyncio.gather(*(_revision(url) for url in urls))
        return {
            "code": _code_digest(),
            "database": dict(zip(SERVICES, revisions, strict=True)),
            "credentials": _digest(repr(sorted(self._system.credentials.items()))),
            "admin": _digest(repr(self._admin)),
        }


async def _revision(url: str) -> list[Any] | None:
    """Return the database's id and its migration, or None if a service cannot sign in."""
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            row = await connection.fetchrow(
                "SELECT oid, (SELECT max(version_num) FROM alembic_version)"
                " FROM pg_database WHERE datname = current_database()"
            )
        finally:
            await connection.close()
    except UNUSABLE:  # no such role yet, another password, no migrations
        return None
    return list(row)


async def _find_notice(url: str) -> MaintenanceNotice | None:
    engine = make_engine(asyncpg_url(SecretStr(url)), pool_size=1)
    try:
        return await find_notice(engine)
    except (DBAPIError, OSError, TimeoutError):  # no such role yet, or another password
        return None
    finally:
        await engine.dispose()


def _code_digest() -> str:
    """Return a digest of the code that the preparation runs."""
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
