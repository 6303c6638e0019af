"""Canonical JSON (RFC 8785): one text for one value, to be hashed."""

import json
from decimal import Decimal
from math import isfinite
from typing import Any

import rfc8785

_EXACT = 2**53 - 1
"""The largest integer of RFC 8785's numbers, which are doubles."""


def storable(value: Any) -> Any:
    """Return a value as PostgreSQL's jsonb gives it back.

    jsonb has no NUL, no infinities, and one spelling for a whole number; what it would refuse is
    replaced by something visible, so that no event is lost for a strange character.
    """
    if isinstance(value, str):
        return value.replace("\x00", "\u2400") if "\x00" in value else value
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, float):
        return _storable_float(value)
    return value


def _storable_float(number: float) -> int | float | str:
    if not isfinite(number):
        return str(number)
    return int(Decimal(repr(number))) if number.is_integer() else number


def canonical(value: Any) -> bytes:
    """Return the canonical text of a storable value.

    Integers that a double cannot hold (ids may be as large as 2**63) are written as an object,
    which no string of the same digits can pass for.
    """
    if _is_plain(value):
        # The standard encoder writes such values exactly as RFC 8785 wants, eight times as fast.
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    return rfc8785.dumps(_within_doubles(value))


def _is_plain(value: Any) -> bool:
    """Say whether the value has neither fractions, nor large integers, nor names beyond ASCII."""
    if value is None or isinstance(value, str | bool):
        return True
    if isinstance(value, int):
        return -_EXACT <= value <= _EXACT
    if isinstance(value, dict):
        return all(name.isascii() and _is_plain(item) for name, item in value.items())
    return isinstance(value, list) and all(map(_is_plain, value))


def _within_doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _within_doubles(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_within_doubles(item) for item in value]
    if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
        return {"$integer": str(value)}
    return value
