"""Writes before they are sent: their shapes, parameters and events, and where their results go."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.orm.exc import StaleDataError

from shared.change_events import Values
from shared.db import Entity
from shared.events import EventData
from shared.row_formats import NewId
from shared.row_statements import WriteShape


@dataclass(slots=True)
class WrittenRow:
    """A row of an audited model as a write leaves it: all values that the write knows."""

    kind: type[Entity]
    values: Values

    @property
    def id(self) -> int:
        """The id. Before `send` that of a new row is a NewId, which other writes may use."""
        id_: int = self.values["id"]
        return id_

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclass(slots=True)
class WrittenRows:
    """The rows that a write of an unaudited model inserted or changed; none before `send`.

    `rows` has the columns that the write was to return, as the driver returns them.
    """

    count: int = 0
    rows: list[Values] = field(default_factory=list)


@dataclass(slots=True)
class RowWrite:
    """A new row of an audited model, or the change of one, with its event.

    The shape is None if a change has no difference: only its event is sent. The event is None if
    the change is one of bookkeeping.
    """

    shape: WriteShape | None
    parameters: list[Any]
    result: WrittenRow
    event: EventData | None
    new_id: NewId | None = None

    def take(self, results: Iterator[Any]) -> None:
        """Take the results of the statement. Raises StaleDataError if no row was matched."""
        value = next(results)
        row = self.result.values
        if self.new_id is not None:
            self.new_id.assigned = row["id"] = value
        elif self.shape and self.shape.operation == "change" and value != 1:
            name = self.result.kind.entity_type
            raise StaleDataError(f"{name} {self.result.id} was changed since it was read")
        for name, reference in row.items():
            if isinstance(reference, NewId):
                row[name] = reference.assigned


@dataclass(slots=True)
class BulkWrite:
    """New rows of a model that is not audited, or a change of some."""

    shape: WriteShape
    parameters: list[Any]
    result: WrittenRows
    event: None = None
    new_id: None = None

    def take(self, results: Iterator[Any]) -> None:
        """Take the results of the statement."""
        names = self.shape.returning
        self.result.count = next(results)
        columns = [next(results) for _ in names]
        self.result.rows = [
            dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)
        ]


Write = RowWrite | BulkWrite


def shapes_and_parameters(
    writes: Sequence[Write],
) -> tuple[tuple[WriteShape, ...], list[Any]]:
    """Return the shapes of writes with their references, and the parameters that remain.

    Raises ValueError for the id of a row that is not among them.
    """
    places = {id(write.new_id): place for place, write in enumerate(writes) if write.new_id}
    shapes: list[WriteShape] = []
    parameters: list[Any] = []
    for write in writes:
        assert write.shape is not None
        references: list[tuple[str, int]] = []
        for place, value in enumerate(write.parameters):
            if not isinstance(value, NewId):
                parameters.append(value)
            elif id(value) in places and place < len(write.shape.columns):
                references.append((write.shape.columns[place], places[id(value)]))
            else:
                raise ValueError(f"{write.shape.kind.__name__}: the row of a new id is not sent")
        shape = write.shape
        shapes.append(replace(shape, references=tuple(references)) if references else shape)
    return tuple(shapes), parameters
