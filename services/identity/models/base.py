"""The root of this service's tables."""

from sqlalchemy.orm import DeclarativeBase

from shared.db import TYPES, metadata


class Base(DeclarativeBase):
    """Root of this service's tables."""

    metadata = metadata()
    type_annotation_map = TYPES


def one_of(column: str, values: tuple[str, ...]) -> str:
    """Return the condition that a column has one of these values."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"
