"""The database driver's connection: the tenant of its transactions, and statements without ORM.

Every transaction of a session first applies its tenant's settings. Sent by itself, that statement
costs a round trip to the server, about 0.2 ms of the processor in each transaction of the system.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

Fetch = Callable[..., Awaitable[Sequence[Mapping[str, Any]]]]
"""What executes a statement in a session's transaction and returns its rows, as `fetch` does."""

_TRANSACTION, _ADAPTER, _WITH_BEGIN = "carnet.transaction", "carnet.adapter", "carnet.with_begin"

_OPTIONS: Mapping[str, Mapping[Any, str]] = {
    "isolation": {
        "read_uncommitted": "ISOLATION LEVEL READ UNCOMMITTED",
        "read_committed": "ISOLATION LEVEL READ COMMITTED",
        "repeatable_read": "ISOLATION LEVEL REPEATABLE READ",
        "serializable": "ISOLATION LEVEL SERIALIZABLE",
    },
    "readonly": {True: "READ ONLY"},
    "deferrable": {True: "DEFERRABLE"},
}


class DriverTransaction(Protocol):
    """A transaction as SQLAlchemy's adapter of asyncpg drives it."""

    async def start(self) -> None:
        """Begin the transaction."""

    async def commit(self) -> None:
        """Commit it."""

    async def rollback(self) -> None:
        """Roll it back."""


class TenantConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection of asyncpg. `first_statement` is sent together with the next BEGIN.

    The statement must have no parameters and no result that is needed: the two are one simple
    query. Code that hands the connection to another user sets it to None.
    """

    __slots__ = ("first_statement",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.first_statement: str | None = None

    def transaction(self, **options: Any) -> DriverTransaction:
        """Return a transaction with asyncpg's options. Raises KeyError for an unknown one."""
        words = [_OPTIONS[name][value] for name, value in options.items() if value]
        return _Transaction(self, " ".join(["BEGIN", *words]))


class _Transaction:
    def __init__(self, connection: TenantConnection, begin: str) -> None:
        self._connection = connection
        self._begin = begin

    async def start(self) -> None:
        connection = self._connection
        first, connection.first_statement = connection.first_statement, None
        try:
            await connection.execute(f"{self._begin};{first}" if first else self._begin)
        except asyncpg.PostgresError:
            # The caller does not end a transaction that did not start: this one failed after BEGIN.
            if connection.is_in_transaction():
                await self.rollback()
            raise

    async def commit(self) -> None:
        await self._connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self._connection.execute("ROLLBACK")


async def execute_early(session: AsyncSession, statement: str) -> None:
    """Execute a statement without parameters, together with BEGIN if the transaction is to begin.

    So a lock that a transaction takes first has no round trip of its own. If that lock must wait,
    the statements after it see what was committed meanwhile. The text may consist of constants and
    of numbers only. Its result is not read, and an error is raised by the transaction's next
    statement if this one was deferred.
    """
    if session.in_transaction():
        await fetch(session, statement)
    else:
        session.info.setdefault(_WITH_BEGIN, []).append(statement)


def take_early_statements(session: Session) -> list[str]:
    """Remove and return the statements that are to be sent with the BEGIN of a session."""
    statements: list[str] = session.info.pop(_WITH_BEGIN, [])
    return statements


async def fetch(
    session: AsyncSession, statement: str, *parameters: Any
) -> Sequence[Mapping[str, Any]]:
    """Execute a statement in a session's transaction, below SQLAlchemy, and return its rows.

    The statement has the form of the driver: parameters are `$1`, `$2` …, values are the driver's.
    The transaction begins if it has not begun, with the session's tenant. A call costs a third of
    `session.execute`, so it is for the statements of the busiest paths. Changes that the session
    has not flushed are not visible to it. Change audited rows with `shared.writes` only.

    Raises SQLAlchemy's errors, as `session.execute` does, without the parameters.
    """
    adapter = await _adapter_of(session)
    driver = adapter.driver_connection
    try:
        if not driver.is_in_transaction():
            await adapter._start_transaction()
        rows: Sequence[Mapping[str, Any]] = await driver.fetch(statement, *parameters)
    except BaseException as error:
        await _raise_translated(session, adapter, statement, error)
    return rows


async def flush_changes(session: AsyncSession) -> None:
    """Flush a session if it has changes: a flush of nothing costs a switch of greenlets."""
    if session.new or session.dirty or session.deleted:
        await session.flush()


async def fetch_flushed(
    session: AsyncSession, statement: str, *parameters: Any
) -> Sequence[Mapping[str, Any]]:
    """Execute a statement as `fetch` does, after the session's changes were flushed."""
    await flush_changes(session)
    return await fetch(session, statement, *parameters)


async def _adapter_of(session: AsyncSession) -> Any:
    """Return SQLAlchemy's adapter of the session's connection, looked up once in a transaction.

    The lookup begins the transaction or, inside of one, the savepoint.
    """
    transaction = _transaction_of(session)
    if transaction is not None and session.info.get(_TRANSACTION) is transaction:
        return session.info[_ADAPTER]
    adapter = await session.run_sync(lambda inner: inner.connection().connection.dbapi_connection)
    session.info[_TRANSACTION], session.info[_ADAPTER] = _transaction_of(session), adapter
    return adapter


def _transaction_of(session: AsyncSession) -> SessionTransaction | None:
    inner = session.sync_session
    return inner.get_nested_transaction() or inner.get_transaction()


async def _raise_translated(
    session: AsyncSession, adapter: Any, statement: str, error: BaseException
) -> NoReturn:
    """Raise an error of the driver as SQLAlchemy does; give up a connection that is unusable."""
    failure = translated(adapter, statement, error) if isinstance(error, Exception) else error
    # Who is cancelled does not wait for the response, which the next user must not receive.
    if adapter.driver_connection.is_closed() or not isinstance(error, Exception):
        await (await session.connection()).invalidate(error)
    if failure is error:
        raise error
    raise failure from error


def translated(adapter: Any, statement: str, error: Exception) -> Exception:
    """Return the error that SQLAlchemy raises, without parameters, when its driver raises one."""
    try:
        adapter._handle_exception(error)
    except adapter.dbapi.Error as known:
        database_error: Exception = DBAPIError.instance(
            statement,
            None,
            known,
            adapter.dbapi.Error,
            hide_parameters=True,
            connection_invalidated=adapter.driver_connection.is_closed(),
        )
        return database_error
    except Exception as unknown:
        return unknown
    return error
