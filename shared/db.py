"""Column types, names of constraints, the engine, and the columns of every audited table."""

import socket
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import SecretStr
from pydantic_core import from_json
from sqlalchemy import BigInteger, DateTime, Identity, MetaData, Numeric, Text, Uuid, event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from shared.connections import TenantConnection
from shared.moments import read_every_moment

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

SECRET = {"secret": True}
"""`mapped_column(info=SECRET)`: the column is never in an event."""

BOOKKEEPING = {"bookkeeping": True}
"""`mapped_column(info=BOOKKEEPING)`: changes with every change, so it is not in events."""

WallClock = Annotated[datetime, DateTime(timezone=False)]
"""The type of a column with a time of a wall clock, without its zone."""

TYPES: dict[Any, Any] = {
    int: BigInteger,
    str: Text,
    datetime: DateTime(timezone=True),
    WallClock: DateTime(timezone=False),
    Decimal: Numeric(12, 2),
    UUID: Uuid,
    dict[str, Any]: JSONB,
}

DIALECT: Any = PGDialect_asyncpg(dbapi=PGDialect_asyncpg.import_dbapi())  # type: ignore[no-untyped-call]
"""How SQLAlchemy writes statements and converts values for the driver, without a connection."""

_KEEPALIVE = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,
}
"""In seconds, the last in milliseconds. `provisioning` sets the same for the server."""


def metadata() -> MetaData:
    """Return a new collection of tables. They have no schema: the role's search_path selects it."""
    return MetaData(naming_convention=NAMING)


def now() -> datetime:
    """Return the present time in UTC, with its zone."""
    return datetime.now(UTC)


class Entity:
    """Mixin for the model of an audited table, whose changes are passed to `record`."""

    entity_type: ClassVar[str]

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True, sort_order=-1)
    created_at: Mapped[datetime] = mapped_column(default=now, info=BOOKKEEPING, sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(
        default=now, onupdate=now, info=BOOKKEEPING, sort_order=91
    )
    version: Mapped[int] = mapped_column(default=1, info=BOOKKEEPING, sort_order=92)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805
        return {"version_id_col": cls.version}

    @property
    def audited_organization_id(self) -> int | None:
        """Return the organization whose audit log shows a change of this row."""
        return getattr(self, "organization_id", None)


def make_engine(url: SecretStr, *, pool_size: int = 10) -> AsyncEngine:
    """Return an engine for a service's role, with at most twice `pool_size` connections.

    Connections stay open: to open one costs as much as a whole request. The one that was used last
    is used first, for its statements are prepared.
    """
    engine = create_async_engine(
        url.get_secret_value(),
        pool_size=2 * pool_size,
        max_overflow=0,
        pool_use_lifo=True,
        pool_timeout=5,
        json_deserializer=from_json,
        connect_args={
            "timeout": 5,
            "connection_class": TenantConnection,
            "server_settings": {"timezone": "UTC"},
        },
    )
    event.listen(engine.sync_engine, "connect", detect_dead_server)
    event.listen(
        engine.sync_engine,
        "connect",
        lambda connection, _record: connection.run_async(read_every_moment),
    )
    event.listen(engine.sync_engine, "checkout", refuse_closed)
    event.listen(engine.sync_engine, "checkout", remove_tenant)
    return engine


def detect_dead_server(connection: AdaptedConnection, *_: Any) -> None:
    """Set the socket's options so that a statement fails when the server's host is gone.

    Without this a statement waits until the system gives up, and occupies a place of the pool. Slow
    statements are not interrupted.
    """
    link: socket.socket = connection.driver_connection._transport.get_extra_info("socket")
    if link.family == socket.AF_UNIX:
        return
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not every system has all of them
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def refuse_closed(connection: AdaptedConnection, *_: Any) -> None:
    """Make the pool replace connections that the server has closed.

    The event loop detects them at once. So no request fails after an immediate restart of the
    database, and none has the cost of a check beforehand (`pool_pre_ping`).

    Raises InvalidatePoolError for a closed connection.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def remove_tenant(connection: AdaptedConnection, *_: Any) -> None:
    """Remove the tenant of a former user of the connection that sent no statement."""
    connection.driver_connection.first_statement = None
