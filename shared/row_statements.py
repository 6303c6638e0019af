"""Statements that write rows of several models and their events at once, generated from the models.

Each write is a common table expression. A statement is generated once for each combination of
writes: those of one use case are always the same.
"""
# ruff: noqa: S608 - all names are of the models and of this module, all values are parameters

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Literal

from shared.outbox import NOTIFY, append_statement
from shared.row_formats import Model, ModelFormat, format_of

_JSON_TYPES = ("JSON", "JSONB")


@dataclass(frozen=True, slots=True)
class WriteShape:
    """All of a write but its values, which decides its SQL.

    `references` are columns whose value is the id that another write of the statement inserts, with
    the place of that write. `keys` are the columns that select the rows of an update, and
    `null_keys` those of them that must be null.
    """

    operation: Literal["insert", "change", "insert_many", "update"]
    kind: Model
    columns: tuple[str, ...]
    references: tuple[tuple[str, int], ...] = ()
    keys: tuple[str, ...] = ()
    null_keys: tuple[str, ...] = ()
    returning: tuple[str, ...] = ()
    skip_existing: bool = False


@lru_cache(maxsize=1024)
def statement_of(shapes: tuple[WriteShape, ...], *, with_events: bool) -> str:
    """Return the statement of some writes and of their events.

    Its parameters are those of each write in order: of the columns without a reference, then of the
    keys that are not null. Those of the events follow: the text that represents each new id, then
    `outbox.append_parameters`. The statement returns one row with the columns of `results_of`.
    """
    numbers = count(1)
    parts = [f"w{place} AS ({_sql_of(shape, numbers)})" for place, shape in enumerate(shapes)]
    results = [result for place, shape in enumerate(shapes) for result in _results(place, shape)]
    if with_events:
        body = "body"
        for place in places_of_new_ids(shapes):
            body = f"replace({body}, ${next(numbers)}::text, (SELECT id::text FROM w{place}))"
        # Only after the rows are locked: events of one row have ids in the order of its changes.
        changes = [place for place, shape in enumerate(shapes) if shape.operation == "change"]
        condition = " AND ".join(f"(SELECT count(*) FROM w{place}) = 1" for place in changes)
        append = append_statement(next(numbers), body=body, condition=condition or "true")
        parts.append(f"events AS ({append})")
        results.append(NOTIFY)
    return f"WITH {', '.join(parts)} SELECT {', '.join(results)}"


def places_of_new_ids(shapes: tuple[WriteShape, ...]) -> list[int]:
    """Return the places of the writes that insert one row whose id the server assigns."""
    return [
        place
        for place, shape in enumerate(shapes)
        if shape.operation == "insert" and "id" not in shape.columns
    ]


def _results(place: int, shape: WriteShape) -> Iterator[str]:
    """Yield what the statement returns of a write."""
    if shape.operation == "insert":
        yield f"(SELECT id FROM w{place})"
        return
    yield f"(SELECT count(*) FROM w{place})"
    for name in shape.returning:
        yield f"ARRAY(SELECT {format_of(shape.kind).columns[name].sql} FROM w{place})"


def _sql_of(shape: WriteShape, numbers: Iterator[int]) -> str:
    model = format_of(shape.kind)
    match shape.operation:
        case "insert":
            return _insert(model, shape, numbers)
        case "insert_many":
            return _insert_many(model, shape, numbers)
        case _:
            return _update(model, shape, numbers)


def _values(shape: WriteShape, numbers: Iterator[int]) -> Iterator[str]:
    """Yield the SQL of each column's value."""
    references = dict(shape.references)
    for name in shape.columns:
        place = references.get(name)
        yield f"${next(numbers)}" if place is None else f"(SELECT id FROM w{place})"


def _insert(model: ModelFormat, shape: WriteShape, numbers: Iterator[int]) -> str:
    names = ", ".join(model.columns[name].sql for name in shape.columns)
    values = ", ".join(_values(shape, numbers))
    return f"INSERT INTO {model.table} ({names}) VALUES ({values}) RETURNING id"


def _update(model: ModelFormat, shape: WriteShape, numbers: Iterator[int]) -> str:
    values = zip(shape.columns, _values(shape, numbers), strict=True)
    changes = ", ".join(f"{model.columns[name].sql} = {value}" for name, value in values)
    conditions = [f"{model.columns[name].sql} = ${next(numbers)}" for name in shape.keys]
    conditions += [f"{model.columns[name].sql} IS NULL" for name in shape.null_keys]
    returning = ", ".join(model.columns[name].sql for name in shape.returning) or "1"
    return (
        f"UPDATE {model.table} SET {changes} WHERE {' AND '.join(conditions)} RETURNING {returning}"
    )


def _insert_many(model: ModelFormat, shape: WriteShape, numbers: Iterator[int]) -> str:
    references = dict(shape.references)
    formats = [(name, model.columns[name]) for name in shape.columns]
    own = [column for name, column in formats if name not in references]
    if arrays_in_arrays := [column.sql for column in own if column.type_sql.endswith("[]")]:
        raise TypeError(f"{model.table}: {arrays_in_arrays} are arrays, insert rows one by one")
    arrays = (
        f"${next(numbers)}::{'text' if column.type_sql in _JSON_TYPES else column.type_sql}[]"
        for column in own
    )
    values = (
        f"(SELECT id FROM w{references[name]})"
        if name in references
        else f"added.{column.sql}::{column.type_sql}"
        for name, column in formats
    )
    returning = ", ".join(model.columns[name].sql for name in shape.returning) or "1"
    return (
        f"INSERT INTO {model.table} ({', '.join(column.sql for _, column in formats)})"
        f" SELECT {', '.join(values)} FROM unnest({', '.join(arrays)}) WITH ORDINALITY"
        f" AS added ({', '.join(column.sql for column in own)}, ordinality_of_row)"
        " ORDER BY ordinality_of_row"
        f"{' ON CONFLICT DO NOTHING' if shape.skip_existing else ''} RETURNING {returning}"
    )
