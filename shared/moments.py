"""Dates and times that PostgreSQL can store and Python cannot: a row with one remains readable.

PostgreSQL's calendar has the years from 4713 BC to 5874897 and two infinities; Python's has the
years 1 to 9999. A value outside of them is read as the first or the last day that requests may have
(`shared.fields.Day`), so that sums with it are in range too. Carnet itself writes no such value:
it is from version 1, or from an operator's SQL.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

FIRST_DAY, LAST_DAY = date(1000, 1, 1), date(8999, 12, 31)
FIRST_INSTANT = datetime(1000, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(9000, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)

# PostgreSQL counts days and microseconds from the year 2000.
_DAY_ZERO = date(2000, 1, 1).toordinal()
_ZERO = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def encode_day(day: date) -> tuple[int]:
    """Return the days since PostgreSQL's first day."""
    return (day.toordinal() - _DAY_ZERO,)


def decode_day(count: tuple[int]) -> date:
    """Return the day; the first or the last one if Python's calendar does not have it."""
    try:
        return date.fromordinal(count[0] + _DAY_ZERO)
    except (ValueError, OverflowError):
        return FIRST_DAY if count[0] < 0 else LAST_DAY


def encode_instant(instant: date) -> tuple[int]:
    """Return the microseconds since PostgreSQL's first instant."""
    if not isinstance(instant, datetime):  # midnight, as in the driver
        instant = datetime(instant.year, instant.month, instant.day)  # noqa: DTZ001
    return ((instant.astimezone(UTC) - _ZERO) // _MICROSECOND,)


def decode_instant(count: tuple[int]) -> datetime:
    """Return the instant; the first or the last one if Python's calendar does not have it."""
    try:
        return _ZERO + timedelta(0, 0, count[0])
    except OverflowError:
        return FIRST_INSTANT if count[0] < 0 else LAST_INSTANT


async def read_every_moment(connection: Any) -> None:
    """Make an asyncpg connection read every value of a `date` or `timestamptz` column."""
    for name, encode, decode in (
        ("date", encode_day, decode_day),
        ("timestamptz", encode_instant, decode_instant),
    ):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encode, decoder=decode, format="tuple"
        )
