"""Types of request fields: bounded, trimmed, and free of what PostgreSQL or a page cannot hold."""

import unicodedata
from typing import Annotated
from zoneinfo import available_timezones

from fastapi import Path
from pydantic import AfterValidator, EmailStr, Field, StringConstraints

MAX_ID = 2**63 - 1

Id = Annotated[int, Path(ge=1, le=MAX_ID)]
"""An id in a path."""

BodyId = Annotated[int, Field(ge=1, le=MAX_ID)]
"""An id in a body or a query."""


def _printable_line(text: str) -> str:
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        raise ValueError("must be one line without control characters")
    return text


def _printable_text(text: str) -> str:
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\r\t" for char in text):
        raise ValueError("must not contain control characters")
    return text


def _short(address: str) -> str:
    if len(address) > 254:  # RFC 5321, section 4.5.3.1.3, less the angle brackets
        raise ValueError("must have at most 254 characters")
    return address


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("must be an IANA time zone such as Europe/Warsaw")
    return name


_trimmed = StringConstraints(strip_whitespace=True, min_length=1, max_length=255)

Name = Annotated[str, _trimmed, AfterValidator(_printable_line)]
"""A name or another line of text, 1 to 255 characters."""

Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=10_000),
    AfterValidator(_printable_text),
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

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""An ISO 4217 code."""
