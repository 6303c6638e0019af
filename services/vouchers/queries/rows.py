"""What the queries share."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row
from sqlalchemy.orm import DeclarativeBase

Rows = Sequence[Row[Any]]
Found = TypeVar("Found")


def columns_of(model: type[DeclarativeBase], names: Iterable[str]) -> list[ColumnElement[Any]]:
    """Return columns of a model's table."""
    return [model.__table__.c[name] for name in names]


def position(row: Row[Any]) -> tuple[int, ...]:
    """Return where a row stands in a list that is ordered by id."""
    return (row.id,)


def found(row: Found | None, error: type[Exception]) -> Found:
    """Return what was looked for, or raise the error that says it is not there."""
    if row is None:
        raise error
    return row
