"""The books of all accounts in one SQLite file: objects, idempotent responses, deliveries.

Everything is written before a request is answered, and outlives the end of the process at any
moment (not a loss of power). The memory that the process needs does not grow with the books.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

Resource = dict[str, Any]
"""An object of Stripe's API. Fields whose names begin with `_` are never sent."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, book TEXT NOT NULL,
    kind TEXT NOT NULL, created INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (book, kind, seq);
CREATE TABLE IF NOT EXISTS responses (
    book TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, status INTEGER NOT NULL,
    body BLOB NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (book, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS responses_by_age ON responses (created);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY, event TEXT NOT NULL, endpoint TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS deliveries_by_due ON deliveries (due);
CREATE INDEX IF NOT EXISTS deliveries_by_event ON deliveries (event);
"""
# Fields by which lists are filtered: each has an index.
_FILTERS = (
    *("payment_intent", "charge", "customer", "source", "status", "type", "currency"),
    *("payment_method", "account", "_payout"),
)


@dataclass(frozen=True)
class PageQuery:
    """The parameters of a list: https://docs.stripe.com/api/pagination."""

    limit: int = 10
    starting_after: str | None = None
    ending_before: str | None = None
    created: Mapping[str, int] | None = None
    types: tuple[str, ...] = ()


class Store:
    """All objects. `path` is a file or `:memory:`."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;"
            + _SCHEMA
            + "".join(
                f"CREATE INDEX IF NOT EXISTS objects_by_{name} ON objects"
                f" (book, kind, {_value_of(name)}, seq) WHERE {_value_of(name)} IS NOT NULL;"
                for name in _FILTERS
            )
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Store everything of a block, or nothing if it raises."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def insert(self, book: str, resource: Resource) -> None:
        """Store a new object."""
        self.connection.execute(
            "INSERT INTO objects (id, book, kind, created, body) VALUES (?, ?, ?, ?, ?)",
            (resource["id"], book, resource["object"], resource["created"], _encoded(resource)),
        )

    def update(self, resource: Resource) -> None:
        """Store the present state of an object."""
        self.connection.execute(
            "UPDATE objects SET body = ? WHERE id = ?", (_encoded(resource), resource["id"])
        )

    def delete(self, identifier: str) -> None:
        """Remove an object."""
        self.connection.execute("DELETE FROM objects WHERE id = ?", (identifier,))

    def find(self, book: str, kind: str | None, identifier: str) -> Resource | None:
        """Return an object of one book; of any kind if `kind` is None."""
        row = self.connection.execute(
            "SELECT body FROM objects WHERE id = ? AND book = ? AND kind = coalesce(?, kind)",
            (identifier, book, kind),
        ).fetchone()
        return orjson.loads(row[0]) if row else None

    def book_of(self, identifier: str) -> str | None:
        """Return the book that contains an object."""
        query = "SELECT book FROM objects WHERE id = ?"
        row = self.connection.execute(query, (identifier,)).fetchone()
        return str(row[0]) if row else None

    def rows_of(self, book: str, kind: str, **filters: object) -> list[Resource]:
        """Return all objects of a kind whose fields have these values, newest first."""
        conditions, values = _conditions(book, kind, filters)
        rows = self.connection.execute(
            f"SELECT body FROM objects WHERE {conditions} ORDER BY seq DESC",  # noqa: S608 - ours
            values,
        )
        return [orjson.loads(row[0]) for row in rows]

    def page_of(
        self, book: str, kind: str, query: PageQuery, filters: Mapping[str, object]
    ) -> tuple[list[Resource], bool]:
        """Return a page, newest first, and whether more follow in its direction."""
        conditions, values = _conditions(book, kind, filters)
        for operator, limit in (query.created or {}).items():
            conditions += f" AND created {_OPERATORS[operator]} ?"
            values.append(limit)
        if query.types:
            conditions += f" AND {_value_of('type')} IN ({', '.join('?' * len(query.types))})"
            values += query.types
        order = "ASC" if query.ending_before else "DESC"
        cursor = query.ending_before or query.starting_after
        if cursor:
            sign = ">" if query.ending_before else "<"
            conditions += f" AND seq {sign} (SELECT seq FROM objects WHERE id = ?)"  # noqa: S608
            values.append(cursor)
        rows = self.connection.execute(
            f"SELECT body FROM objects WHERE {conditions} ORDER BY seq {order} LIMIT ?",  # noqa: S608
            [*values, query.limit + 1],
        ).fetchall()
        page = [orjson.loads(row[0]) for row in rows[: query.limit]]
        return (page[::-1] if query.ending_before else page), len(rows) > query.limit

    def clear(self) -> None:
        """Remove all responses, deliveries and objects but the webhook endpoints."""
        for table in ("objects WHERE kind <> 'webhook_endpoint'", "responses", "deliveries"):
            self.connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def _value_of(name: str) -> str:
    return f"json_extract(body, '$.{name}')"


def _conditions(book: str, kind: str, filters: Mapping[str, object]) -> tuple[str, list[Any]]:
    fields = {name: value for name, value in filters.items() if value is not None}
    assert fields.keys() <= set(_FILTERS), "only fields with an index"
    parts = ["book = ?", "kind = ?", *(f"{_value_of(name)} = ?" for name in fields)]
    return " AND ".join(parts), [book, kind, *fields.values()]


def _encoded(resource: Resource) -> str:
    return orjson.dumps(resource).decode()
