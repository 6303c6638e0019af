"""What a service promises of its events beside their types, and what a reader takes of them.

The promise itself is a JSON Schema for each type in the publisher's `event_shapes/`, written from
these declarations and the models by `carnet event-shapes write` (see docs/events.md).
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
    """What an event tells of its row, and so which columns it is sure to hold."""

    NEW_ROW = "new row"  # every column, as new values
    CHANGE = "change"  # the columns that changed
    REMOVAL = "removal"  # every column, as old values; what stays of a kept row, as new values
    FACT = "fact"  # no column


@dataclass(frozen=True, slots=True)
class Shape:
    """What one event type tells: its kind, and the details that its `record` calls add.

    `details` is a TypedDict of the added new values. One of the name of a column says more of it:
    that it is always there, or which values it takes.
    """

    kind: Kind
    details: type[Any] | None = None


Shapes = Mapping[str, Shape]
"""Event type → what it tells; a type that is not named tells of a change, without details."""


def new_row(details: type[Any] | None = None) -> Shape:
    """Return the shape of an event that tells of a new row."""
    return Shape(Kind.NEW_ROW, details)


def change(details: type[Any] | None = None) -> Shape:
    """Return the shape of an event that tells what changed of a row."""
    return Shape(Kind.CHANGE, details)


def removal(details: type[Any] | None = None) -> Shape:
    """Return the shape of an event that tells what a row was before it was deleted."""
    return Shape(Kind.REMOVAL, details)


def fact(details: type[Any] | None = None) -> Shape:
    """Return the shape of an event that tells of no row's change."""
    return Shape(Kind.FACT, details)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a consumer takes of an event: models of its new values and, if it does, of its old.

    `partial`: any field may be missing, as of what changed. `from_envelope` names the model's
    fields that are filled from the envelope instead.
    """

    new_values: type[BaseModel] | None = None
    old_values: type[BaseModel] | None = None
    partial: bool = False
    from_envelope: frozenset[str] = frozenset()


Readings = Mapping[str, Reading]
"""Event type → what is read of it; checked against what the type's publisher promises."""


@cache
def published_shapes(package: str) -> Mapping[str, Schema]:
    """Return the committed JSON Schema of every event type that a service's package publishes."""
    folder = files(package) / FOLDER
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    return {
        name.removesuffix(".json"): json.loads((folder / name).read_text(encoding="utf-8"))
        for name in names
    }
