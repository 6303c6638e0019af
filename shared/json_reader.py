"""The reader of JSON bodies: it checks bounds before it parses, and refuses repeated keys.

It uses Python's own parser with Decimal, because a float would lose digits of an amount.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

from fastapi import Request

from shared.errors import AppError, Invalid, printable
from shared.media_types import require_small

# The largest valid body has 45 values, 3 levels deep. An error costs some 20 µs a value: 20 ms
# at most.
MAX_VALUES = 1_000
"""The largest number of values in a body: fields, items, objects and lists together."""

MAX_DEPTH = 16
"""The largest depth of nested objects and lists."""

# A number of nine characters can have a billion digits once it is converted to int.
_LARGEST_EXPONENT = 400
_LONGEST_NUMBER = 400
_LONGEST_PATH = 300  # of a key, in a response

# Possessive, and the closing quote is optional: no part of the text is matched twice.
_STRING = re.compile(r'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[{]|[\]}]")


class MalformedJson(AppError):
    """The body is not valid JSON. Correct it and send it again."""

    status = 400


class DuplicateKey(MalformedJson):
    """The body has a key twice in one object. Send each key once."""


class _Duplicate(Exception):
    """Ends the parsing of an object that has a key twice."""


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, with repeated keys."""


class _BadNumber(ValueError):
    """A number that is not JSON, or that is out of range."""


def _refuse_constant(name: str) -> Any:
    raise _BadNumber(f"{name} is not a JSON number")


def _decimal(text: str) -> Decimal:
    if len(text) > _LONGEST_NUMBER:
        raise _BadNumber("a number has too many digits")
    number = Decimal(text)
    if number and abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise _BadNumber("a number is out of range")
    return number


def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its members. Raises _Duplicate for a repeated key."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise _Duplicate
    return content


# Created once: creating a decoder takes longer than reading a small body.
_DECODER = json.JSONDecoder(
    object_pairs_hook=to_object, parse_float=_decimal, parse_constant=_refuse_constant
)
_PAIRS_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_float=_decimal, parse_constant=_refuse_constant
)


def read_json(body: bytes) -> Any:
    """Return the content of a body. Numbers with a fraction are Decimals, never floats.

    Raises MalformedJson, DuplicateKey, Invalid for more than MAX_VALUES, and BodyTooLarge.
    """
    try:
        text = body.decode(json.detect_encoding(body))
        _check_bounds(text)
        require_small(body)
        return decode(text)
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno}, column {error.colno}"
        raise MalformedJson(f"The body is not valid JSON: {error.msg} {where}.") from None
    except _BadNumber as error:
        raise MalformedJson(f"The body is not valid JSON: {error}.") from None
    except UnicodeDecodeError:
        raise MalformedJson("The body is not valid JSON: it is not UTF-8.") from None
    except ValueError:  # of an integer with thousands of digits
        raise MalformedJson("The body is not valid JSON: a number has too many digits.") from None


def decode(text: str) -> Any:
    """Return the content of a JSON text.

    Raises DuplicateKey: the value of a repeated key would depend on the parser (RFC 8259, section
    4).
    """
    try:
        return _DECODER.decode(text)
    except _Duplicate:
        path = ".".join(next(_duplicates(_PAIRS_DECODER.decode(text), ())))
    name = printable(path, _LONGEST_PATH)
    raise DuplicateKey(f"The body has {name} twice. Send each key of an object once.")


def _duplicates(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the path of every repeated key."""
    if isinstance(value, _Pairs):
        names = set()
        for name, inner in value:
            if name in names:
                yield (*path, name)
            names.add(name)
            yield from _duplicates(inner, (*path, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _duplicates(inner, (*path, str(place)))


def _check_bounds(text: str) -> None:
    """Raise Invalid for too many values, MalformedJson for too deep nesting (RFC 8259, section 9).

    Each value but the first follows a comma or an opening bracket.
    """
    openings = text.count("[") + text.count("{")
    if openings <= MAX_DEPTH and openings + text.count(",") < MAX_VALUES:
        return  # even if none of them is inside a string
    structure = _STRING.sub("", text)
    check_depth(structure)
    values = structure.count("[") + structure.count("{") + structure.count(",") + 1
    if values > MAX_VALUES:
        raise Invalid("body", f"must hold at most {MAX_VALUES:,} values in all")


def check_depth(structure: str) -> None:
    """Raise MalformedJson if brackets are nested deeper than MAX_DEPTH."""
    depth = 0
    # A body with more brackets than these has too many values.
    for bracket in islice(_BRACKET.finditer(structure), 2 * MAX_VALUES):
        depth += 1 if bracket.group() in "[{" else -1
        if depth > MAX_DEPTH:
            detail = f"The body nests objects and lists more than {MAX_DEPTH} deep."
            raise MalformedJson(detail)


class ExactRequest(Request):
    """A request whose JSON is read by `read_json`."""

    async def json(self) -> Any:
        """Return the body's content. Raises MalformedJson or Invalid."""
        if not hasattr(self, "_json"):
            self._json = read_json(await self.body())
        return self._json
