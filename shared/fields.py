"""Types of request fields: bounded, trimmed, and free of what PostgreSQL or a page cannot hold.

The patterns in `json_schema_extra` are for the OpenAPI document: they say what a validator checks.
"""

import re
import unicodedata
from datetime import date
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    EmailStr,
    Field,
    StringConstraints,
)

from shared.currencies import CURRENCIES

MAX_ID = 2**63 - 1

_ID = re.compile(r"[1-9][0-9]{0,18}")


def _written_id(text: Any) -> Any:
    """Refuse every spelling but one: an Idempotency-Key is remembered with the path as written."""
    if not _ID.fullmatch(text):
        raise ValueError(f"must be a whole number from 1 to {MAX_ID}, in digits alone")
    return text


Id = Annotated[int, Path(ge=1, le=MAX_ID), BeforeValidator(_written_id)]
"""An id in a path."""

QueryId = Annotated[int, Field(ge=1, le=MAX_ID), BeforeValidator(_written_id)]
"""An id in a query."""

BodyId = Annotated[int, Field(ge=1, le=MAX_ID)]
"""An id in a body."""


# What turns the order of the text around it, so that a page shows something else than was written:
# https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
_TURNING = "\\u202a-\\u202e\\u2066-\\u2069"
_INVISIBLE = "\\u00ad\\u200b-\\u200f\\u2060-\\u2065\\u206a-\\u206f\\ufeff"
_TURNS = re.compile(f"[{_TURNING}]")
_SEEN = re.compile(rf"[^\s{_INVISIBLE}]")


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs") or _TURNS.match(char) is not None


def _printable_line(text: str) -> str:
    if any(_is_control(char) for char in text):
        raise ValueError("must be one line without control characters")
    if not _SEEN.search(text):
        raise ValueError("must have a character that can be seen")
    return text


def _printable_text(text: str) -> str:
    if any(_is_control(char) and char not in "\n\r\t" for char in text):
        raise ValueError("must not contain control characters")
    return text


_DAY = re.compile(r"[1-8][0-9]{3}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    _DAY.pattern + r"[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _written_day(value: Any) -> Any:
    """Refuse what would be read as seconds since 1970, and years that no calendar reckons with."""
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("must be a day such as 2026-11-23, in the years 1000 to 8999")
    return value


def _written_instant(value: Any) -> Any:
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        raise ValueError("must be a time such as 2026-11-23T14:05:00Z, in the years 1000 to 8999")
    return value


def _short(address: str) -> str:
    if len(address) > 254:  # RFC 5321, section 4.5.3.1.3, less the angle brackets
        raise ValueError("must have at most 254 characters")
    return address


@cache
def _zones() -> frozenset[str]:
    # Each call of the standard library's walks a tree of files, some thousand system calls.
    return frozenset(available_timezones())


def _known_zone(name: str) -> str:
    if name not in _zones():
        raise ValueError("must be an IANA time zone such as Europe/Warsaw")
    return name


def _known_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("must be an ISO 4217 code such as EUR")
    return code


_trimmed = StringConstraints(strip_whitespace=True, min_length=1, max_length=255)

_CONTROL = rf"\x00-\x1f\x7f-\x9f{_TURNING}"
_LINE = rf"^[^{_CONTROL}]*[^\s{_CONTROL}{_INVISIBLE}][^{_CONTROL}]*$"
_LINES = rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_TURNING}]*$"

Name = Annotated[
    str, _trimmed, AfterValidator(_printable_line), Field(json_schema_extra={"pattern": _LINE})
]
"""A name or another line of text, 1 to 255 characters."""

Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=10_000),
    AfterValidator(_printable_text),
    Field(json_schema_extra={"pattern": _LINES}),
]
"""Text of several lines, at most 10,000 characters."""

Email = Annotated[EmailStr, AfterValidator(_short)]
"""An e-mail address, checked for its form."""

Phone = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^\+?[0-9][0-9 ()./-]{2,30}$")
]
"""A telephone number as people write it."""

TimeZone = Annotated[str, AfterValidator(_known_zone)]
"""An IANA time zone."""

Currency = Annotated[
    str,
    AfterValidator(_known_currency),
    Field(json_schema_extra={"enum": sorted(CURRENCIES)}),
]
"""An ISO 4217 code, in capitals."""

Day = Annotated[date, BeforeValidator(_written_day), Field(json_schema_extra={"pattern": "^[1-8]"})]
"""A day as RFC 3339 writes it, never a number."""

Instant = Annotated[
    AwareDatetime, BeforeValidator(_written_instant), Field(json_schema_extra={"pattern": "^[1-8]"})
]
"""A point in time as RFC 3339 writes it, with its offset; never a number."""


def without_defaults(schema: dict[str, Any]) -> None:
    """Take the defaults out of a partial update's schema: what is not sent stays as it is.

    For `ConfigDict(json_schema_extra=…)`. The model needs the defaults, but a client that took
    them from the document would send them.
    """
    for field in schema.get("properties", {}).values():
        field.pop("default", None)
