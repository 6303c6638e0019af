"""The shapes of events: which fields a publisher guarantees, and which ones a consumer reads.

A shape is published as a JSON Schema for each event type in the service's `event_shapes/`. The
command `carnet event-shapes write` generates it from these declarations and the models (see
docs/events.md).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel

FOLDER = "event_shapes"

Schema = dict[str, Any]


class Kind(StrEnum):
    """The relation of an event to its row, which decides the columns that it always has."""

    NEW_ROW = "new row"  # every column, as new values
    CHANGE = "change"  # the columns that changed
    REMOVAL = "removal"  # every column, as old values; of a row that remains, new values too
    FACT = "fact"  # no column


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of an event type: its kind, and the details that its `record` calls add.

    `details` is a TypedDict of the additional new values. A field with the name of a column narrows
    that column: it is always present, or has certain values.
    """

    kind: Kind
    details: type[Any] | None = None


Shapes = Mapping[str, Shape]
"""Event type → shape. A type that is not a key is a change without details."""


def new_row(details: type[Any] | None = None) -> Shape:
    """Return the shape of an event about a new row."""
    return Shape(Kind.NEW_ROW, details)


def change(details: type[Any] | None = None) -> Shape:
    """Return the shape of an event about the change of a row."""
    return Shape(Kind.CHANGE, details)


def removal(details: type[Any] | None = None) -> Shape:
    """Return the shape of an event about the deletion of a row."""
    return Shape(Kind.REMOVAL, details)


def fact(details: type[Any] | None = None) -> Shape:
    """Return the shape of an event without the change of a row."""
    return Shape(Kind.FACT, details)


@dataclass(frozen=True, slots=True)
class EventReading:
    """The fields that a consumer reads of an event: models of its new and of its old values.

    With `partial` any field may be missing, as in the event of a change. `from_envelope` names the
    fields of the model that are read from the envelope instead.
    """

    new_values: type[BaseModel] | None = None
    old_values: type[BaseModel] | None = None
    partial: bool = False
    from_envelope: frozenset[str] = frozenset()


EventReadings = Mapping[str, EventReading]
"""Event type → the fields that are read; a check compares them with the published shape."""


@cache
def published_shapes(package: str) -> Mapping[str, Schema]:
    """Return the committed JSON Schema of every event type that a service's package publishes."""
    folder = files(package) / FOLDER
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    return {
        name.removesuffix(".json"): json.loads((folder / name).read_text(encoding="utf-8"))
        for name in names
    }
