"""What the queries share."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import Row

Rows = Sequence[Row[Any]]
Found = TypeVar("Found")


def position(row: Row[Any]) -> tuple[int, ...]:
    """Return where a row stands in a list that is ordered by id."""
    return (row.id,)


def found(row: Found | None, error: type[Exception]) -> Found:
    """Return what was looked for, or raise the error that says it is not there."""
    if row is None:
        raise error
    return row
