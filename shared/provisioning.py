"""A service's corner of a database: its roles, its schema, and nothing else's."""

import asyncio
from collections.abc import Mapping

import asyncpg
from sqlalchemy.engine import make_url

# Two services provisioned at once would race for the catalogue rows of the database itself.
_LOCK = "SELECT pg_advisory_lock(hashtextextended('carnet.provisioning', 0))"
_ATTEMPTS = 20
# Made by another database's provisioning meanwhile, or altered at the same moment.
_RACED = (
    asyncpg.DuplicateObjectError,
    asyncpg.UniqueViolationError,
    asyncpg.InternalServerError,
)
# A host that vanishes says nothing. The server must find out by itself, or its sessions keep their
# locks for hours, and the relay's keeps every other relay from leading. Of the roles, not of the
# connections: a pooler refuses parameters that it does not know.
_KEEPALIVE = {
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
}
# And for a process that stands still, whose host still answers. Nothing outside the database is
# awaited in a transaction; an export, which waits for its reader, asks for more.
_LIMITS = {"idle_in_transaction_session_timeout": "60s"}


def database_url(admin_url: str, role: str, password: str) -> str:
    """Return the URL by which a role signs in to the administrator's database."""
    url = make_url(admin_url).set(drivername="postgresql", username=role, password=password)
    return url.render_as_string(hide_password=False)


def in_database(admin_url: str, name: str) -> str:
    """Return the administrator's URL of another database on the same server."""
    url = make_url(admin_url).set(drivername="postgresql", database=name)
    return url.render_as_string(hide_password=False)


async def provision(admin_url: str, service: str, *, password: str, owner_password: str) -> None:
    """Make a service's role, its schema's owner and its schema; safe to repeat.

    The service's role can use its own schema and owns nothing: an owner would bypass row-level
    security and could TRUNCATE. Migrations run as the owner.
    """
    url = make_url(admin_url).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        await connection.execute(_LOCK)
        for role, secret in ((service, password), (f"{service}_owner", owner_password)):
            await _ensure_role(connection, role, secret)
        await _ensure_schema(connection, service)
    finally:
        await connection.close()


async def _ensure_role(connection: asyncpg.Connection, role: str, password: str) -> None:
    """Make or alter a role; roles are the whole server's, and our lock is the database's alone."""
    for attempt in range(_ATTEMPTS):
        try:
            await _put_role(connection, role, password)
            return
        except _RACED:
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.1)


async def _put_role(connection: asyncpg.Connection, role: str, password: str) -> None:
    known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    verb = "ALTER" if known else "CREATE"
    literal = await connection.fetchval("SELECT quote_literal($1::text)", password)
    await connection.execute(
        f'{verb} ROLE "{role}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {literal}'
    )


async def _ensure_schema(connection: asyncpg.Connection, service: str) -> None:
    owner = f"{service}_owner"
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    statements = (
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f'GRANT CONNECT ON DATABASE {database} TO "{service}", "{owner}"',
        # A managed server's administrator is no superuser: it must belong to a role to give to it.
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
    for statement in statements:
        await _insist(connection, statement)


def _settings(role: str, database: str, values: Mapping[str, str]) -> list[str]:
    alter = f'ALTER ROLE "{role}" IN DATABASE {database} SET'
    return [f"{alter} {name} = '{value}'" for name, value in values.items()]


async def _insist(connection: asyncpg.Connection, statement: str) -> None:
    """Run a statement on the server's catalogue again when another database's raced it."""
    for attempt in range(_ATTEMPTS):
        try:
            await connection.execute(statement)
            return
        except _RACED:
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.1)
