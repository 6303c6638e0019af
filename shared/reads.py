"""Reading without the ORM: a response is one statement, which returns JSON, in one round trip.

A statement that reads needs no transaction of several messages. The rows that it may see are set in
the statement itself: its condition on them has no column, so PostgreSQL evaluates it once, before
it reads the first row (a "One-Time Filter"), and the settings end with the statement. If they were
applied too late, the policies would hide every row.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from shared.connections import translated
from shared.db import DIALECT
from shared.json_rows import Fields, JsonRows, values_of, whole_row
from shared.paging import Page
from shared.tenancy import Tenant

_LIMIT = bindparam("page_limit", type_=BigInteger)


@dataclass(frozen=True, slots=True)
class PreparedRead:
    """The text of a statement, and its parameters in order: constants, and names of values."""

    sql: str
    names: Sequence[str]
    constants: Mapping[str, Any]

    @classmethod
    def of(cls, statement: Select[Any]) -> "PreparedRead":
        """Compile a statement, and let it apply the tenant before it reads."""
        is_applied = _tenant_statement().scalar_subquery().is_not(None)
        sql = statement.where(is_applied).compile(dialect=DIALECT)
        constants = {
            name: bind.effective_value for name, bind in sql.binds.items() if not bind.required
        }
        return cls(sql.string, list(sql.positiontup or ()), constants)

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the parameters of an execution. Raises KeyError for a missing value."""
        constants = self.constants
        return [constants[name] if name in constants else values[name] for name in self.names]


def _tenant_statement() -> Select[Any]:
    settings = (
        func.set_config(
            literal_column(f"'carnet.{name}'"),
            bindparam(f"carnet_{name}", type_=Text),
            literal_column("true"),
        )
        for name in Tenant().settings()
    )
    return select(func.concat(*settings))


class Reader:
    """Executes reading statements, each of which sees the rows of a tenant only."""

    def __init__(self, engine: AsyncEngine, tenant: Tenant) -> None:
        self._engine = engine
        self._tenant = tenant

    def limited_to(self, tenant: Tenant) -> Self:
        """Return a reader that sees the rows of another tenant."""
        return type(self)(self._engine, tenant)

    async def fetch(self, statement: PreparedRead, values: Mapping[str, Any]) -> Sequence[Any]:
        """Return the rows of a statement. Raises DBAPIError, and TimeoutError of a full pool."""
        settings = {f"carnet_{name}": text for name, text in self._tenant.settings().items()}
        arguments = statement.arguments({**settings, **values})
        connection = await self._engine.raw_connection()
        try:
            driver: Any = connection.driver_connection
            rows: Sequence[Any] = await driver.fetch(statement.sql, *arguments)
        except Exception as error:
            raise translated(connection.dbapi_connection, statement.sql, error) from error
        except BaseException:
            # The request was cancelled: its statement may still run.
            await greenlet_spawn(connection.invalidate)
            raise
        finally:
            await greenlet_spawn(connection.close)
        return rows


@dataclass(frozen=True, slots=True)
class Document:
    """One row as the JSON of a response, and the facts that its reader is authorized by."""

    body: bytes
    facts: Any


class FactsQuery:
    """A query of values of one row, by which the reader of something else is authorized."""

    def __init__(self, source: Select[Any], facts: Mapping[str, Any]) -> None:
        self._type: Any = namedtuple("Facts", [*facts])  # type: ignore[misc]
        self._prepared = PreparedRead.of(source.with_only_columns(*facts.values()))

    async def find(self, reader: Reader, **values: Any) -> Any:
        """Return the facts of the row with these values, or None."""
        rows = await reader.fetch(self._prepared, values)
        return self._type(*rows[0]) if rows else None


class JsonQuery:
    """A query whose rows are the JSON of a response model.

    `source` has the tables and the conditions, `fields` the expression of each field of the model,
    `filters` the conditions that apply if their values are given, and `facts` further values of a
    row. Lists are ordered by `order`, newest first unless it states otherwise. Statements are made
    once for each combination of filters.
    """

    def __init__(
        self,
        model: type[BaseModel],
        source: Select[Any],
        fields: Fields,
        *,
        filters: Mapping[str, ColumnElement[bool]] | None = None,
        facts: Mapping[str, Any] | None = None,
        order: Sequence[Any] = (),
        newest_first: bool = True,
    ) -> None:
        self._model = model
        self._rows = JsonRows(model, fields)
        self._source = source
        self._filters = filters or {}
        self._facts = facts or {}
        self._facts_type: Any = namedtuple("Facts", [*self._facts])  # type: ignore[misc]
        self._order = order
        self._newest_first = newest_first
        self._prepared: dict[frozenset[str], PreparedRead] = {}

    async def find(self, reader: Reader, **values: Any) -> Document | None:
        """Return the one row with these values, or None."""
        rows = await self._fetch(reader, values)
        if not rows:
            return None
        text, *others = rows[0]
        facts = self._facts_type(*others[: len(self._facts)])
        return Document(self._rows.one(text), facts)

    async def list(self, reader: Reader, **values: Any) -> bytes:
        """Return all rows with these values as a JSON list."""
        return self._rows.body([row[0] for row in await self._fetch(reader, values)])

    async def page(self, reader: Reader, page: Page, **values: Any) -> bytes:
        """Return a page of rows as a JSON list, and set its header Link. Raises Invalid."""
        count = len(self._order)
        position = {f"after_{number}": part for number, part in enumerate(page.position(count))}
        limit = {"page_limit": page.limit + 1}
        rows = await self._fetch(reader, {**values, **position, **limit})
        return self._rows.body([row[0] for row in page.cut(rows, lambda row: tuple(row[-count:]))])

    async def _fetch(self, reader: Reader, values: Mapping[str, Any]) -> Sequence[Any]:
        arguments = {name: value for name, value in values.items() if value is not None}
        names = frozenset(arguments)
        statement = self._prepared.get(names)
        if statement is None:
            statement = self._prepared[names] = PreparedRead.of(self._statement(names))
        return await reader.fetch(statement, arguments)

    def _statement(self, names: frozenset[str]) -> Select[Any]:
        facts = [fact.label(f"fact_{name}") for name, fact in self._facts.items()]
        places = [key.label(f"place_{number}") for number, key in enumerate(self._order)]
        statement = self._source.with_only_columns(*self._rows.columns, *facts, *places)
        statement = statement.where(
            *(condition for name, condition in self._filters.items() if name in names)
        )
        if "after_0" in names:
            after = (bindparam(f"after_{i}", type_=BigInteger) for i in range(len(places)))
            statement = statement.where(tuple_(*self._order) < tuple_(*after))
        statement = statement.order_by(*self._directed(self._order))
        if "page_limit" in names:
            statement = statement.limit(_LIMIT)
        rows = statement.subquery("rows")
        values = values_of(rows, self._model)
        outer = (rows.c[column.name] for column in (*facts, *places))
        order = self._directed([rows.c[place.name] for place in places])
        result = select(cast(whole_row(values), Text), *outer).select_from(rows, values)
        return result.order_by(*order)

    def _directed(self, keys: Sequence[Any]) -> Sequence[Any]:
        return [key.desc() if self._newest_first else key.asc() for key in keys]
