"""Fixtures: a migrated database for each service and test process, a broker's virtual host, tokens.

A pytest plugin. `make test` starts the servers and sets their addresses: CARNET_TEST_DATABASE_URL
(an administrator's) and CARNET_TEST_RABBITMQ_URL (without a virtual host).
"""

import asyncio
import hashlib
import inspect
import json
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import structlog
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from shared import migrations, provisioning, tenancy
from shared.broker_access import broker_url
from shared.openapi import HEADERS
from shared.problems import documented_operations
from shared.provisioning import database_url, in_database, provision
from shared.settings import asyncpg_url
from shared.testing_shapes import require_published_shape
from shared.tokens import ACCESS_TOKEN_TYPE, ALGORITHM, ServiceSigner

ISSUER = "carnet-test"
AUDIENCE = "carnet-test-api"
PASSWORD = "test"
PATIENCE = 60.0
"""Seconds after which a test no longer waits: a limit for a failure, not an expected duration."""
_COPIES = count()
SERVICES = ("identity", "organizations", "vouchers", "payments", "audit")


def pytest_configure() -> None:
    """Configure logging and property tests, and remove a developer's settings.

    A developer may have set variables for `make run`; tests must not read them.
    """
    for name in list(os.environ):
        if name.startswith(tuple(f"{owner.upper()}_" for owner in (*SERVICES, "gateway"))):
            del os.environ[name]
    # structlog's default prints every local variable of a traceback, which takes seconds.
    plain = structlog.dev.plain_traceback
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain),
        ]
    )
    slow = [HealthCheck.too_slow]
    settings.register_profile("carnet", deadline=None, suppress_health_check=slow, print_blob=True)
    settings.load_profile("carnet")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def free_port() -> int:
    """Return an unused port of 127.0.0.1.

    Not one of those that Linux uses for outgoing connections (32768 and up): a connection of
    another test could use it before the server listens.
    """
    while True:
        port = secrets.choice(range(20_000, 32_000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def until(
    condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = PATIENCE
) -> None:
    """Wait until a condition is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if await result if isinstance(result, Awaitable) else result:
                return
            await asyncio.sleep(0.02)


def _required(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        pytest.exit(f"{variable} is not set: run the tests with `make test`", returncode=2)
    return value


@pytest.fixture(scope="session")
def test_process(worker_id: str) -> int:
    """The number of this test process among those that run in parallel."""
    return int(worker_id.removeprefix("gw")) if worker_id != "master" else 0


@pytest.fixture(scope="session")
def rabbitmq_url(test_process: int) -> SecretStr:
    """An administrator's address, who may publish as any user. Services use `broker_url_of`."""
    return SecretStr(f"{_required('CARNET_TEST_RABBITMQ_URL').rstrip('/')}/test-{test_process}")


def broker_url_of(user: str, url: SecretStr) -> SecretStr:
    """Return the address with which a user signs in to the tests' broker."""
    return SecretStr(broker_url(url.get_secret_value(), user))


@dataclass(frozen=True, slots=True)
class Database:
    """One service's database: as the administrator, the schema's owner, and the service.

    `package` is the service's, which holds its migrations and the shapes of its events; None for
    a service of the tests' own.
    """

    service: str
    admin_url: str
    package: str | None = None

    @property
    def url(self) -> SecretStr:
        return SecretStr(database_url(self.admin_url, self.service, PASSWORD))

    @property
    def owner_url(self) -> SecretStr:
        return asyncpg_url(
            SecretStr(database_url(self.admin_url, f"{self.service}_owner", PASSWORD))
        )

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield a superuser's connection, with which a test reads or manipulates rows."""
        connection = await asyncpg.connect(self.admin_url)
        try:
            await connection.execute(f'SET search_path = "{self.service}"')
            yield connection
        finally:
            await connection.close()

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Return rows without row-level security."""
        async with self.admin() as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    async def events(self) -> list[dict[str, Any]]:
        """Return the events in the outbox, oldest first.

        Raises AssertionError for an event that does not match its published shape, or that has
        further fields: an undeclared detail, a secret column.
        """
        rows = await self.rows("SELECT body FROM outbox ORDER BY id")
        events = [json.loads(row["body"]) for row in rows]
        if self.package:
            for event in events:
                require_published_shape(self.package, event)
        return events

    async def clear(self) -> None:
        """Empty every table, without triggers and foreign keys."""
        async with self.admin() as connection:
            tables = await connection.fetch(
                "SELECT quote_ident(tablename) AS name FROM pg_tables"
                " WHERE schemaname = $1 AND tablename <> 'alembic_version'",
                self.service,
            )
            deletes = "; ".join(f"DELETE FROM {table['name']}" for table in tables)
            await connection.execute(f"SET session_replication_role = replica; {deletes}")


@contextmanager
def new_database(name: str) -> Iterator[str]:
    """Create an empty database on the tests' server, yield its superuser's URL, and drop it."""
    url = in_database(_required("CARNET_TEST_DATABASE_URL"), name)

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(in_database(url, "postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute(f'CREATE DATABASE "{name}"'))
    try:
        yield url
    finally:
        asyncio.run(execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


def service_database(package: str) -> Callable[..., Any]:
    """Return a session fixture of a service's migrated database, for its tests' conftest.

    `package` is the service's, such as `services.vouchers`.
    """

    @pytest.fixture(scope="session", name="session_database")
    def database(test_process: int) -> Iterator[Database]:
        admin_url = _required("CARNET_TEST_DATABASE_URL")
        copy = asyncio.run(_copy_of_template(admin_url, package, test_process))
        yield copy
        asyncio.run(_drop(admin_url, copy))

    return database


@pytest.fixture
async def database(session_database: Database) -> AsyncIterator[Database]:
    """The service's database, which is emptied after the test. Transactions really commit."""
    yield session_database
    await session_database.clear()


async def _copy_of_template(admin_url: str, package: str, process: int) -> Database:
    """Return a copy of a database that is migrated once for each state of the migrations."""
    service = package.rpartition(".")[2]
    template = f"template_{service}_{_digest_of_migrations(package)}"
    name = f"test_{service}_{os.getpid()}_{process}_{next(_COPIES)}"
    connection = await asyncpg.connect(in_database(admin_url, "postgres"))
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtextextended('carnet.test', 0))")
        exists = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", template)
        if not exists:
            await _make_template(connection, admin_url, package, template)
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    finally:
        await connection.close()
    # Per-database role settings (the search_path) are not copied with a template.
    copy = Database(service, in_database(admin_url, name), package)
    await provision(copy.admin_url, service, password=PASSWORD, owner_password=PASSWORD)
    return copy


async def _make_template(
    connection: asyncpg.Connection, admin_url: str, package: str, template: str
) -> None:
    draft = f"{template}_unfinished"
    await connection.execute(f'DROP DATABASE IF EXISTS "{draft}"')
    await connection.execute(f'CREATE DATABASE "{draft}"')
    service = package.rpartition(".")[2]
    database = Database(service, in_database(admin_url, draft), package)
    await provision(database.admin_url, service, password=PASSWORD, owner_password=PASSWORD)
    await migrations.upgrade(package, database.owner_url)
    await connection.execute(f'ALTER DATABASE "{draft}" RENAME TO "{template}"')


def _digest_of_migrations(package: str) -> str:
    folder = migrations.folder_of(package)
    digest = hashlib.sha256()
    modules = [Path(inspect.getfile(module)) for module in (migrations, tenancy, provisioning)]
    for path in [*sorted(folder.rglob("*.py")), *modules]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


async def _drop(admin_url: str, database: Database) -> None:
    connection = await asyncpg.connect(in_database(admin_url, "postgres"))
    try:
        name = make_url(database.admin_url).database
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Tokens:
    """An issuer of tokens for tests, with real keys and signatures."""

    key: ECKey = field(
        default_factory=lambda: ECKey.generate_key("P-256", {"kid": "test"}, private=True)
    )
    service_keys: dict[str, ECKey] = field(
        default_factory=lambda: {
            name: ECKey.generate_key("P-256", {"kid": name}, private=True)
            for name in (*SERVICES, "gateway")
        }
    )

    idempotency_secret: str = "a secret that signs nothing, for tests"

    @property
    def jwks(self) -> str:
        return json.dumps(KeySet([self.key]).as_dict(private=False))

    def settings(self, service: str) -> dict[str, Any]:
        """Return the settings with which a service accepts these tokens."""
        return {
            "jwks": self.jwks,
            "token_issuer": ISSUER,
            "token_audience": AUDIENCE,
            "internal_key": self._private(service),
            "internal_jwks": json.dumps(
                KeySet(list(self.service_keys.values())).as_dict(private=False)
            ),
            "idempotency_secret": self.idempotency_secret,
        }

    def _private(self, service: str) -> str:
        return json.dumps(self.service_keys[service].as_dict(private=True))

    def access(
        self,
        user_id: int,
        role: str,
        organization_id: int | None = None,
        permissions: tuple[str, ...] = (),
        **changes: Any,
    ) -> str:
        """Return an access token; `changes` overwrite claims."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": "1",
            "role": role,
            "organization_id": organization_id,
            "permissions": list(permissions),
            "iat": now,
            "exp": now + 600,
            **changes,
        }
        header = {"alg": ALGORITHM, "typ": ACCESS_TOKEN_TYPE, "kid": "test"}
        return jwt.encode(header, claims, self.key, algorithms=[ALGORITHM])

    def bearer(
        self,
        user_id: int,
        role: str,
        organization_id: int | None = None,
        permissions: tuple[str, ...] = (),
    ) -> dict[str, str]:
        """Return the headers of a signed-in user's request."""
        token = self.access(user_id, role, organization_id, permissions)
        return {"Authorization": f"Bearer {token}"}

    def service_bearer(self, caller: str, service: str) -> dict[str, str]:
        """Return the headers of one service's call to another."""
        token = ServiceSigner(self._private(caller)).token_for(service)
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    return Tokens()


def client_of(app: FastAPI) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    """Return a client that calls an application in this process, with its lifespan running."""

    @asynccontextmanager
    async def running() -> AsyncIterator[httpx.AsyncClient]:
        # An unexpected error must reach the test as a client receives it: a 500 with a document.
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            client.event_hooks = {"response": [partial(_require_documented_headers, app)]}
            yield client

    return running()


async def _require_documented_headers(app: FastAPI, response: httpx.Response) -> None:
    """Raise AssertionError if a response has a header of ours that the document does not have."""
    request = response.request
    operation = documented_operations(app, request.url.path).get(request.method.lower(), {})
    description = operation.get("responses", {}).get(str(response.status_code))
    if description is not None:
        names = {name for name in HEADERS if name in response.headers}
        names -= description["headers"].keys()
        assert not names, f"{request.method} {request.url.path}: {names}"
