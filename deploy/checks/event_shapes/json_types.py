"""JSON Schemas of Python types, as `shared.changes` writes their values into events."""

from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

from shared.db import WallClock
from shared.shapes import Schema

MONEY: Schema = {"type": "string", "pattern": "^-?[0-9]+([.][0-9]+)?$"}
"""A decimal as text, because a float could change the amount."""

WALL_CLOCK: Schema = {
    "type": "string",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?$",
}
"""A time of a wall clock, which has no offset and so is no `date-time` (RFC 3339)."""

_SCALARS: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Decimal: MONEY,
    UUID: {"type": "string", "format": "uuid"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string", "format": "time"},
    dict: {"type": "object"},
    NoneType: {"type": "null"},
    Any: {},
}


def schema_of(kind: Any) -> Schema:
    """Return the JSON Schema of a type's values. Raises TypeError for an unsupported type."""
    if kind == WallClock:
        return dict(WALL_CLOCK)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Annotated, Required, NotRequired):
        return schema_of(arguments[0])
    if origin in (Union, UnionType):
        schemas = [schema_of(argument) for argument in arguments if argument is not NoneType]
        if len(arguments) == 2 and len(schemas) == 1:
            return nullable(schemas[0])
        return {"anyOf": [schema_of(argument) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if is_typeddict(kind):
        properties, required = properties_of(kind), required_of(kind)
        return {"type": "object", "properties": properties, "required": required}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"type": "string", "enum": [member.value for member in kind]}
    scalar = _SCALARS.get(origin or kind)
    if scalar is None:
        raise TypeError(f"events cannot contain a {kind}")
    return dict(scalar)


def nullable(schema: Schema) -> Schema:
    """Return a schema that allows null too."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return schema | {"type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def properties_of(kind: type[Any]) -> dict[str, Schema]:
    """Return the schemas of a TypedDict's keys."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: schema_of(hint) for name, hint in hints.items()}


def required_of(kind: type[Any]) -> list[str]:
    """Return the keys that a TypedDict always has, in the order of their declaration."""
    required: frozenset[str] = kind.__required_keys__
    return [name for name in get_type_hints(kind) if name in required]
