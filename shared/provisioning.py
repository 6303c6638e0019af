"""Creates the roles and the schema of a service in a database."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import asyncpg
from sqlalchemy.engine import make_url

# Two simultaneous provisionings would change the same catalogue rows of the database.
_LOCK = "SELECT pg_advisory_lock(hashtextextended('carnet.provisioning', 0))"
_ATTEMPTS = 20
# Raised when another database's provisioning creates or alters the role at the same time.
_CONFLICTS = (
    asyncpg.DuplicateObjectError,
    asyncpg.UniqueViolationError,
    asyncpg.InternalServerError,
)
# A host that fails closes no connections. The server must detect it, or its sessions hold their
# locks for hours, and the relay's lock prevents every other relay from working. Set on the roles,
# not on connections, because a pooler refuses parameters that it does not know.
_KEEPALIVE = {
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
}
# For a process that has stopped on a host that still responds. No transaction waits for another
# system; an export, which waits for its reader, sets a longer limit.
_LIMITS = {"idle_in_transaction_session_timeout": "60s"}


def database_url(admin_url: str, role: str, password: str) -> str:
    """Return the URL with which a role signs in to the administrator's database."""
    url = make_url(admin_url).set(drivername="postgresql", username=role, password=password)
    return url.render_as_string(hide_password=False)


def in_database(admin_url: str, name: str) -> str:
    """Return the administrator's URL of another database on the same server."""
    url = make_url(admin_url).set(drivername="postgresql", database=name)
    return url.render_as_string(hide_password=False)


async def provision(admin_url: str, service: str, *, password: str, owner_password: str) -> None:
    """Create a service's role, the owner of its schema, and the schema. It may be repeated.

    The service's role uses the schema and owns nothing: an owner would bypass row-level security
    and could TRUNCATE. Migrations run as the owner.
    """
    url = make_url(admin_url).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        await connection.execute(_LOCK)
        for role, secret in ((service, password), (f"{service}_owner", owner_password)):
            await retry_conflicts(partial(put_role, connection, role, secret))
        for statement in await schema_statements(connection, service):
            await retry_conflicts(partial(connection.execute, statement))
    finally:
        await connection.close()


async def retry_conflicts(run: Callable[[], Awaitable[object]]) -> None:
    """Run a statement again if another database's provisioning conflicts with it.

    Roles and catalogue rows are the whole server's, and our lock is valid in one database.
    """
    for attempt in range(_ATTEMPTS):
        try:
            await run()
            return
        except _CONFLICTS:
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.1)


async def put_role(connection: asyncpg.Connection, role: str, password: str) -> None:
    """Create a role, or set the password of an existing one."""
    exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    verb = "ALTER" if exists else "CREATE"
    literal = await connection.fetchval("SELECT quote_literal($1::text)", password)
    await connection.execute(
        f'{verb} ROLE "{role}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {literal}'
    )


async def schema_statements(connection: asyncpg.Connection, service: str) -> Sequence[str]:
    """Return the statements that create a service's schema and grant the rights in it."""
    owner = f"{service}_owner"
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    return (
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f'GRANT CONNECT ON DATABASE {database} TO "{service}", "{owner}"',
        # The administrator of a managed server is no superuser: it must be a member of the owner.
        f'GRANT "{owner}" TO CURRENT_USER',
        f'CREATE SCHEMA IF NOT EXISTS "{service}" AUTHORIZATION "{owner}"',
        f'GRANT USAGE ON SCHEMA "{service}" TO "{service}"',
        f'ALTER ROLE "{service}" IN DATABASE {database} SET search_path = "{service}"',
        f'ALTER ROLE "{owner}" IN DATABASE {database} SET search_path = "{service}"',
        *_settings(service, database, _KEEPALIVE | _LIMITS),
        *_settings(owner, database, _KEEPALIVE),
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA "{service}"'
        f' GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{service}"',
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA "{service}"'
        f' GRANT USAGE, SELECT ON SEQUENCES TO "{service}"',
    )


def _settings(role: str, database: str, values: Mapping[str, str]) -> list[str]:
    alter = f'ALTER ROLE "{role}" IN DATABASE {database} SET'
    return [f"{alter} {name} = '{value}'" for name, value in values.items()]
