"""Detached entities: entities of a model that no session has loaded and none writes.

They have the types and the rules of their model, and cost a tenth of entities that the ORM loads.
`shared.writes` writes their changes. Never add one to a session or pass it to `record`.
"""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from shared.change_events import Values
from shared.row_formats import format_of

Model = TypeVar("Model")


def detached(kind: type[Model], values: Mapping[str, Any]) -> Model:
    """Return an entity with these values of columns, of no session."""
    entity = kind()
    # Past the ORM's history, which nobody reads: each value that it tracks costs a microsecond.
    vars(entity).update(values)
    return entity


def values_of(entity: object) -> Values:
    """Return the values of the columns that an entity has."""
    values = vars(entity)
    return {name: values[name] for name in format_of(type(entity)).columns if name in values}


class SelectedColumns(Generic[Model]):
    """All columns of a model, as a part of a statement for `shared.connections.fetch`.

    `sql` lists them; `start` is the number of columns that the statement lists before.
    """

    def __init__(self, kind: type[Model], alias: str, start: int = 0) -> None:
        columns = format_of(kind).columns
        self.sql = ", ".join(f"{alias}.{column.sql}" for column in columns.values())
        self.end = start + len(columns)
        self._kind = kind
        self._names = tuple(columns)
        self._start = start

    def entity(self, row: Mapping[str, Any]) -> Model:
        """Return the entity in a row, detached."""
        values = tuple(row.values())[self._start : self.end]
        return detached(self._kind, dict(zip(self._names, values, strict=True)))

    def optional_entity(self, row: Mapping[str, Any]) -> Model | None:
        """Return the entity in a row, detached, or None if an outer join found none."""
        entity = self.entity(row)
        return None if values_of(entity)["id"] is None else entity
