"""The base class of this service's tables."""

from sqlalchemy.orm import DeclarativeBase

from shared.db import TYPES, metadata


class Base(DeclarativeBase):
    """Root of this service's tables."""

    metadata = metadata()
    type_annotation_map = TYPES
