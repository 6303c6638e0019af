"""Days and instants between PostgreSQL and Python: no value of one row makes a list unreadable.

PostgreSQL's calendar goes from 4713 BC to the year 5874897 and has an infinity at either end;
Python's goes from the year 1 to 9999. What is outside is read as the first or the last day that
requests may name (`shared.fields.Day`), so that sums with it stay inside too. Nothing of Carnet
writes such a value: it comes from version 1, or from SQL of an operator.
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


def _encode_day(day: date) -> tuple[int]:
    return (day.toordinal() - _DAY_ZERO,)


def _decode_day(counted: tuple[int]) -> date:
    try:
        return date.fromordinal(counted[0] + _DAY_ZERO)
    except (ValueError, OverflowError):
        return FIRST_DAY if counted[0] < 0 else LAST_DAY


def _encode_instant(instant: date) -> tuple[int]:
    if not isinstance(instant, datetime):  # a day begins at midnight, as the driver has it
        instant = datetime(instant.year, instant.month, instant.day)  # noqa: DTZ001
    return ((instant.astimezone(UTC) - _ZERO) // _MICROSECOND,)


def _decode_instant(counted: tuple[int]) -> datetime:
    try:
        return _ZERO + timedelta(0, 0, counted[0])
    except OverflowError:
        return FIRST_INSTANT if counted[0] < 0 else LAST_INSTANT


async def read_every_moment(connection: Any) -> None:
    """Let a connection of asyncpg read whatever a column of days or instants holds."""
    for name, encode, decode in (
        ("date", _encode_day, _decode_day),
        ("timestamptz", _encode_instant, _decode_instant),
    ):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encode, decoder=decode, format="tuple"
        )
