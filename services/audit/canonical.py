"""Canonical JSON (RFC 8785): one text for one value, to be hashed."""

from decimal import Decimal
from math import isfinite
from typing import Any

import orjson
import rfc8785

_EXACT = 2**53 - 1
"""The largest integer of RFC 8785's numbers, which are doubles."""


def storable(value: Any) -> Any:
    """Return a value as PostgreSQL's jsonb gives it back.

    jsonb has no NUL, no infinities, and one spelling for a whole number; what it would refuse is
    replaced by something visible, so that no event is lost for a strange character.
    """
    return value if _is_storable(value) else _made_storable(value)


def _is_storable(value: Any) -> bool:
    # Every value of every event passes here: types are compared, which is faster than isinstance.
    kind = type(value)
    if kind is dict:
        return "\x00" not in "".join(value) and all(map(_is_storable, value.values()))
    if kind is list:
        return all(map(_is_storable, value))
    if kind is str:
        return "\x00" not in value
    return kind is not float


def _made_storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\u2400")
    if isinstance(value, dict):
        return {_made_storable(name): _made_storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_made_storable(item) for item in value]
    return _storable_float(value) if isinstance(value, float) else value


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
        # Such values are written exactly as RFC 8785 wants, and many times as fast.
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return rfc8785.dumps(_within_doubles(value))


def _is_plain(value: Any) -> bool:
    """Say whether the value has neither fractions, nor large integers, nor names beyond ASCII."""
    kind = type(value)
    if kind is dict:
        for name, item in value.items():
            if type(item) is not str and not _is_plain(item):
                return False
            if not name.isascii():
                return False
        return True
    if kind is int:
        return bool(-_EXACT <= value <= _EXACT)
    if kind is list:
        return all(map(_is_plain, value))
    return kind is str or kind is bool or value is None


def _within_doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _within_doubles(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_within_doubles(item) for item in value]
    if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
        return {"$integer": str(value)}
    return value
