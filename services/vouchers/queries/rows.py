"""What all queries use."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Row

Rows = Sequence[Row[Any]]
Codes = Sequence[Mapping[str, Any]]
"""Codes with the columns of `CODE_COLUMNS`."""
CODE_COLUMNS = ("code", "is_backup", "is_used", "is_refunded", "is_transferred")
Entity = TypeVar("Entity")


def position(row: Row[Any]) -> tuple[int, ...]:
    """Return the position of a row in a list that is ordered by id."""
    return (row.id,)


def require(row: Entity | None, error: type[Exception]) -> Entity:
    """Return a row that a query was to find; raise the error if there is none."""
    if row is None:
        raise error
    return row
