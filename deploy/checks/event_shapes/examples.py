"""Examples of a schema's values: a full one, and one that has only what is promised."""

from typing import Any

from deploy.checks.event_shapes.json_types import WALL_CLOCK
from shared.shapes import Schema

_STRINGS = {
    "date-time": "2026-11-23T14:30:00+00:00",
    "date": "2026-11-23",
    "time": "14:30:00",
    "uuid": "0193596c-7b1e-7c3a-9f00-5d1f2a3b4c5d",
}

# Readers may check more of these than the schema states, for instance that a time zone exists.
_NAMED = {
    "currency": "PLN",
    "custom_days": 1,
    "email": "person@example.com",
    "ip_address": "192.0.2.7",
    "logo_url": "https://example.com/logo.png",
    "phone": "+48 22 000 00 00",
    "slug": "praxis",
    "timezone": "Europe/Warsaw",
}


def full(schema: Schema, name: str = "text") -> Any:
    """Return a value with every property and no null."""
    return _value(schema, name, everything=True)


def least(schema: Schema, name: str = "text") -> Any:
    """Return a value with only the required properties, null where that is allowed."""
    return _value(schema, name, everything=False)


def _value(schema: Schema, name: str, *, everything: bool) -> Any:
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _value(schema["anyOf"][0 if everything else -1], name, everything=everything)
    kinds = schema.get("type", "object")
    if isinstance(kinds, list):
        kinds = kinds[0 if everything else -1]
    return _of_type(kinds, schema, name, everything=everything)


def _of_type(kind: str, schema: Schema, name: str, *, everything: bool) -> Any:
    if kind == "object":
        required = schema.get("required", [])
        return {
            key: _value(value, key, everything=everything)
            for key, value in schema.get("properties", {}).items()
            if everything or key in required
        }
    if kind == "array":
        return [_value(schema["items"], name, everything=everything)] if everything else []
    if kind == "null":
        return None
    if name in _NAMED:
        return _NAMED[name]
    simple = {"integer": 1, "number": 1795530600.125, "boolean": True}
    if kind in simple:
        return simple[kind]
    if schema.get("pattern") == WALL_CLOCK["pattern"]:
        return "2026-11-23T14:30:00"
    if "pattern" in schema:  # money, or a subject such as `voucher/1`
        start = schema["pattern"].removeprefix("^")
        return f"{start}1" if start.endswith("/") else "399.99"
    return _STRINGS.get(schema.get("format", ""), name)
