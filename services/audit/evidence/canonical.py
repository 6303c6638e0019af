"""Canonical JSON (RFC 8785): each value has exactly one text, which is hashed."""

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from math import isfinite
from typing import Any

import orjson
import rfc8785

Writer = Callable[[Any], bytes]

_EXACT = 2**53 - 1
"""The largest integer that a number of RFC 8785, which is a double, holds exactly."""

_AS_RFC_8785 = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
NUL = rb"\u0000"
_SCALARS = frozenset({str, int, bool, type(None)})
NESTED = frozenset({dict, list})


def storable(value: Any) -> tuple[Any, Writer]:
    """Return a value as PostgreSQL's jsonb returns it, and a function for its canonical text.

    jsonb has no NUL, no infinities, and one spelling for a whole number. What it would refuse is
    replaced by something visible, so that no event is lost for a strange character. The function
    also writes parts of the value.
    """
    if is_plain(value):
        with suppress(orjson.JSONEncodeError):
            if NUL not in write_plain(value):
                return value, write_plain
    return _storable_value(value), canonical


def _storable_value(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\u2400")
    if isinstance(value, dict):
        return {_storable_value(name): _storable_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable_value(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))
    return value


def canonical(value: Any) -> bytes:
    """Return the canonical text of a storable value.

    Integers that a double cannot hold (ids may be as large as 2**63) are written as an object,
    which differs from a string of the same digits.
    """
    if type(value) is int and -_EXACT <= value <= _EXACT:
        return b"%d" % value
    if is_plain(value):
        with suppress(orjson.JSONEncodeError):
            return write_plain(value)
    return rfc8785.dumps(_within_doubles(value))


def write_plain(value: Any) -> bytes:
    """Return the canonical text of a plain value, many times as fast as `canonical`.

    Raises JSONEncodeError for an integer that a double cannot hold.
    """
    return orjson.dumps(value, option=_AS_RFC_8785)


def is_plain(value: Any) -> bool:
    """Return whether the value has neither fractions nor names beyond ASCII."""
    # This runs for every value of every event: sets compare the types in C.
    if type(value) is dict:
        if not "".join(value).isascii():
            return False
        value = value.values()
    elif type(value) is not list:
        return type(value) in _SCALARS
    if _SCALARS.issuperset(map(type, value)):
        return True
    nested = [item for item in value if type(item) not in _SCALARS]
    return NESTED.issuperset(map(type, nested)) and all(map(is_plain, nested))


def _within_doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _within_doubles(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_within_doubles(item) for item in value]
    if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
        return {"$integer": str(value)}
    return value
