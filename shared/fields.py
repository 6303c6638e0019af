"""Types of request fields: bounded, trimmed, without characters that PostgreSQL or a page refuses.

A value has one representation only: a number is neither a string nor a boolean. The models and
types here enforce this, and deploy/tests/test_strict_schemas.py finds routes that use others.

The patterns in `json_schema_extra` document in OpenAPI what a validator checks.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    NaiveDatetime,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from shared.characters import INVISIBLE, plain, visible
from shared.currencies import CURRENCIES

MAX_ID = 2**63 - 1


class RequestBody(BaseModel):
    """The body of a request: only known fields, each of its own JSON type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ServiceData(BaseModel):
    """The fields that are read of another service's response or event.

    Unknown fields are ignored, the others must be of their own JSON type.
    """

    model_config = ConfigDict(extra="ignore", strict=True, validate_assignment=True)

    @classmethod
    def changes_in(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the known fields among the values of a change, which may lack any of them.

        Raises ValidationError.
        """
        partial = cls.model_construct()
        names = [name for name in cls.model_fields if name in values]
        for name in names:
            setattr(partial, name, values[name])
        return {name: getattr(partial, name) for name in names}


T = TypeVar("T")
Choice = Annotated[T, Field(strict=False)]
"""A member of an enumeration of texts, sent as its value. In strict mode pydantic would require the
enumeration's own object."""

_NUMBER = re.compile(r"[1-9][0-9]{0,18}")


def check_digits(text: Any) -> Any:
    """Accept one spelling of a number: an Idempotency-Key is stored with the path as it was sent.

    Raises ValueError.
    """
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise ValueError(f"must be a whole number from 1 to {MAX_ID}, in digits only")
    return text


_digits = BeforeValidator(check_digits)

Id = Annotated[int, Path(ge=1, le=MAX_ID), _digits]
"""An id in a path."""

QueryId = Annotated[int, Field(ge=1, le=MAX_ID), _digits]
"""An id in a query."""

KeyId = Annotated[int, Field(ge=1, le=MAX_ID, strict=False), _digits]
"""An id as the name of a JSON object's field."""

QueryNumber = Annotated[int, _digits]
"""A whole number from 1 in a query."""

BodyId = Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]
"""An id in a body."""


def read_flag(text: Any) -> bool:
    """Return a boolean that is sent as text. Raises ValueError."""
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return bool(text == "true")


QueryFlag = Annotated[bool, BeforeValidator(read_flag)]
"""A boolean in a query: `true` or `false`."""

_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def check_uuid(text: Any) -> Any:
    """Accept a UUID with hyphens only. Raises ValueError."""
    if not isinstance(text, str) or not _UUID.fullmatch(text):
        raise ValueError("must be a UUID such as 123e4567-e89b-12d3-a456-426614174000")
    return text


PathUuid = Annotated[UUID, Path(), BeforeValidator(check_uuid)]
"""A UUID in a path, as RFC 9562 writes it."""


# Characters that reverse the direction of the text after them, so that a page shows another text
# than the one that was sent:
# https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
_BIDIRECTIONAL = "\\u202a-\\u202e\\u2066-\\u2069"
_LINE_SEPARATORS = "\\u2028\\u2029"
_IS_BIDIRECTIONAL = re.compile(f"[{_BIDIRECTIONAL}]")
_LINE_BREAK = re.compile(f"\\r\\n|[\\r\\n{_LINE_SEPARATORS}]")
_MOST_LINES = 8
_INVISIBLE_RULE = "must have a visible character"


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs") or _IS_BIDIRECTIONAL.match(char) is not None


def check_line(text: str) -> str:
    """Accept one line of text without control characters. Raises ValueError."""
    if any(_is_control(char) or _LINE_BREAK.match(char) for char in text):
        raise ValueError("must be one line without control characters")
    if not visible(text).strip():
        raise ValueError(_INVISIBLE_RULE)
    return text


def check_text(text: str) -> str:
    """Accept text of several lines without control characters. Raises ValueError."""
    if any(_is_control(char) and char not in "\n\r\t" for char in text):
        raise ValueError("must not contain control characters")
    if text and not visible(text).strip():
        raise ValueError(f"{_INVISIBLE_RULE}, or be empty")
    return text


def normalize_lines(text: str) -> str:
    """Return a few lines, trimmed, with one kind of line break and no empty line between them."""
    lines = [line.strip() for line in _LINE_BREAK.split(text)]
    lines = [check_line(line) for line in lines if line]
    if len(lines) > _MOST_LINES:
        raise ValueError(f"must have at most {_MOST_LINES} lines")
    return "\n".join(lines)


_DAY = re.compile(r"[1-8][0-9]{3}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    _DAY.pattern + r"[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

_LOCAL_TIME = re.compile(_DAY.pattern + r"T([01][0-9]|2[0-3]):[0-5][0-9](:00)?")

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:")


def check_day(value: Any) -> Any:
    """Accept a day as text: pydantic would read a number as seconds since 1970.

    The years are those of `shared.moments`. Raises ValueError.
    """
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("must be a day such as 2026-11-23, in the years 1000 to 8999")
    return value


def check_instant(value: Any) -> Any:
    """Accept a point in time as text with its offset. Raises ValueError."""
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        raise ValueError("must be a time such as 2026-11-23T14:05:00Z, in the years 1000 to 8999")
    return value


def check_local_time(value: Any) -> Any:
    """Accept a time of a wall clock as text, in whole minutes and without an offset.

    Raises ValueError.
    """
    if not isinstance(value, str) or not _LOCAL_TIME.fullmatch(value):
        raise ValueError("must be a local time such as 2026-11-23T14:05, without an offset")
    return value


def check_event_time(value: Any) -> Any:
    """Accept a point in time as text, also without an offset. Raises ValueError."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and _TIME.match(value)):
        raise ValueError("must be a time such as 2026-11-23T14:05:00Z")
    return value


# Names that no public domain has: RFC 6761 (test, localhost), ICANN resolution 2024.07.29.06
# (internal).
_LOCAL_ADDRESS = re.compile(r"@(?:[^@\s]+\.)?(?:test|localhost|internal)$", re.IGNORECASE)
_STAND_IN = ".example.com"
_local_addresses = False


def accept_local_addresses(accepted: bool) -> None:
    """Set whether this process accepts addresses such as `admin@localhost` or `anna@shop.test`.

    For an installation on one machine: no mail can be delivered to them.
    """
    global _local_addresses
    _local_addresses = accepted


def check_email(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Check an e-mail address; a local one with a public domain appended for the check."""
    if not (_local_addresses and isinstance(value, str) and _LOCAL_ADDRESS.search(value.strip())):
        return check(value)
    return str(check(value.strip() + _STAND_IN)).removesuffix(_STAND_IN)


def check_characters(address: str) -> str:
    """Accept an e-mail address of at most 254 visible characters. Raises ValueError."""
    if len(address) > 254:  # RFC 5321, section 4.5.3.1.3, without the angle brackets
        raise ValueError("must have at most 254 characters")
    if visible(address) != address:
        raise ValueError("must not have invisible characters")
    return address


@cache
def time_zones() -> frozenset[str]:
    """Return the zones and links of the IANA database, as the package tzdata lists them.

    Other names of a machine (localtime, posix/, right/) may have another meaning, or none, on the
    next machine. "Factory" is the database's name for a zone that is not set.
    """
    return frozenset((files("tzdata") / "zones").read_text().split()) - {"Factory"}


def check_zone(name: str) -> str:
    """Accept an IANA time zone. Raises ValueError."""
    if name not in time_zones():
        raise ValueError("must be an IANA time zone such as Europe/Warsaw")
    return name


def check_zone_of_this_machine(name: str) -> str:
    """Accept a time zone that this machine knows. Raises ValueError."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("must be a time zone of this system") from error
    return name


def check_currency(code: str) -> str:
    """Accept the code of a currency. Raises ValueError."""
    if code not in CURRENCIES:
        raise ValueError("must be an ISO 4217 code such as EUR")
    return code


_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")


def check_language(tag: str) -> str:
    """Accept a language tag of BCP 47 with a script or a region at most. Raises ValueError."""
    if not _LANGUAGE.fullmatch(tag):
        raise ValueError("must be a language such as en or de-AT")
    return tag


_trimmed = StringConstraints(strip_whitespace=True, min_length=1, max_length=255)

_CONTROL = rf"\x00-\x1f\x7f-\x9f{_BIDIRECTIONAL}"
_NOT_IN_A_LINE = f"{_CONTROL}{_LINE_SEPARATORS}"
_LINE = rf"^[^{_NOT_IN_A_LINE}]*[^\s{_NOT_IN_A_LINE}{INVISIBLE}][^{_NOT_IN_A_LINE}]*$"
_NOT_IN_A_TEXT = rf"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_BIDIRECTIONAL}"
_ANY_LINES = rf"[^{_NOT_IN_A_TEXT}]*"
_LINES = rf"^(?:{_ANY_LINES}[^\s{_NOT_IN_A_TEXT}{INVISIBLE}]{_ANY_LINES}|\s*)$"

Name = Annotated[
    str, _trimmed, AfterValidator(check_line), Field(json_schema_extra={"pattern": _LINE})
]
"""A name or another line of text, 1 to 255 characters."""

Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=10_000),
    AfterValidator(check_text),
    Field(json_schema_extra={"pattern": _LINES}),
]
"""Text of several lines, at most 10,000 characters."""

Lines = Annotated[str, _trimmed, AfterValidator(normalize_lines)]
"""A few lines of text, such as a postal address: 1 to 255 characters on at most 8 lines."""

Email = Annotated[
    EmailStr,
    WrapValidator(check_email),
    AfterValidator(check_characters),
]
"""An e-mail address, checked for its form; see `accept_local_addresses`."""

_SPACES = " \\u00a0\\u2007\\u2009\\u202f"
_DASHES = "\\u2010-\\u2015\\u2212-"
_EXTENSION = (
    r"(?:[xX]|[eE][xX][tT]\.?|[eE][xX][tT][eE][nN][sS][iI][oO][nN]|[wW][eE][wW]\.?|#|;ext=)"
)

Phone = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        pattern=(
            rf"^\+?[{_SPACES}]?\(?[0-9][0-9()./{_SPACES}{_DASHES}]{{2,30}}"
            rf"(?:,?[{_SPACES}]?{_EXTENSION}[{_SPACES}]?[0-9]{{1,8}})?$"
        ),
    ),
    AfterValidator(plain),
]
"""A telephone number in any usual spelling, with its extension if it has one."""

TimeZone = Annotated[str, AfterValidator(check_zone)]
"""An IANA time zone, the same on every machine."""

KnownTimeZone = Annotated[str, AfterValidator(check_zone_of_this_machine)]
"""A time zone that another service has accepted, perhaps by an older rule."""

Currency = Annotated[
    str,
    AfterValidator(check_currency),
    Field(json_schema_extra={"enum": sorted(CURRENCIES)}),
]
"""An ISO 4217 code, in capitals."""

Locale = Annotated[
    str,
    AfterValidator(check_language),
    Field(json_schema_extra={"pattern": f"^{_LANGUAGE.pattern}$"}),
]
"""A language, with its region if that matters: `en`, `de-AT`. It need not be one with messages."""

Day = Annotated[
    date,
    BeforeValidator(check_day),
    Field(strict=False, json_schema_extra={"pattern": "^[1-8]"}),
]
"""A day as RFC 3339 writes it, never a number."""

Instant = Annotated[
    AwareDatetime,
    BeforeValidator(check_instant),
    Field(strict=False, json_schema_extra={"pattern": "^[1-8]"}),
]
"""A point in time as RFC 3339 writes it, with its offset; never a number."""

LocalTime = Annotated[
    NaiveDatetime,
    BeforeValidator(check_local_time),
    Field(strict=False),
    # No `date-time`, which has an offset (RFC 3339).
    WithJsonSchema({"type": "string", "pattern": f"^{_LOCAL_TIME.pattern}$"}),
]
"""A time of a wall clock whose zone is stated elsewhere, in whole minutes."""

StoredLocalTime = Annotated[NaiveDatetime, WithJsonSchema({"type": "string"})]
"""A time of a wall clock in a response."""

EventTime = Annotated[datetime, BeforeValidator(check_event_time), Field(strict=False)]
"""A point in time in an event or a response of another service, never a number.

Not every publisher writes an offset; all of them mean UTC.
"""


def without_defaults(schema: dict[str, Any]) -> None:
    """Remove the defaults from the schema of a partial update: absent fields are not changed.

    For `ConfigDict(json_schema_extra=…)`. The model needs the defaults, but a client that read them
    in the document would send them.
    """
    for field in schema.get("properties", {}).values():
        field.pop("default", None)
