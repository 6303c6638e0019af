"""The audit trail, the heads of its chains, and the personal data that it only commits to."""

from datetime import date, datetime
from typing import Any, ClassVar

from sqlalchemy import Date, ForeignKey, Identity, Index, LargeBinary
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.db import TYPES, metadata, now

NO_ORGANIZATION = 0
"""The chain of the rows that belong to no organization; no organization has this id."""


class Base(DeclarativeBase):
    """Root of this service's tables."""

    metadata = metadata()
    type_annotation_map: ClassVar = {**TYPES, bytes: LargeBinary, date: Date}


class AuditLog(Base):
    """One change, as its event describes it. Rows are inserted and read, nothing else.

    `position` counts the rows of an organization's chain from 1; `hash` covers `previous_hash` and
    every other column. `envelope` holds the values of the event without a column, so that an event
    of a newer schema is stored completely. Personal data are replaced by commitments.
    """

    __tablename__ = "audit_logs"
    __table_args__ = (
        Index(None, "organization_id", "created_at", "id"),
        Index(None, "organization_id", "position"),
        Index(None, "entity_type", "entity_id", "created_at", "id"),
        Index(None, "user_id", "created_at", "id"),
        Index(None, "correlation_id"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )

    created_at: Mapped[datetime] = mapped_column(primary_key=True, sort_order=20)
    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    user_id: Mapped[int | None]
    organization_id: Mapped[int | None]
    action: Mapped[str]
    entity_type: Mapped[str]
    entity_id: Mapped[int | None]
    old_values: Mapped[dict[str, Any]]
    new_values: Mapped[dict[str, Any]]
    ip_address: Mapped[str | None]
    user_agent: Mapped[str | None]
    event_id: Mapped[str] = mapped_column(sort_order=21)
    correlation_id: Mapped[str] = mapped_column(sort_order=22)
    service: Mapped[str] = mapped_column(sort_order=23)
    envelope: Mapped[dict[str, Any]] = mapped_column(sort_order=24)
    position: Mapped[int] = mapped_column(sort_order=25)
    previous_hash: Mapped[bytes] = mapped_column(sort_order=26)
    hash: Mapped[bytes] = mapped_column(sort_order=27)


class ChainHead(Base):
    """Where an organization's chain ends; each batch that adds rows to the chain locks it once."""

    __tablename__ = "chain_heads"

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int]
    hash: Mapped[bytes]


class PersonalValue(Base):
    """A name or an address that audit rows commit to: SHA-256 of the salt and the value.

    Erasing deletes value and salt; the row that holds the commitment never changes.
    `subject_id` is the user that the value describes, if the event names it.
    """

    __tablename__ = "personal_values"

    commitment: Mapped[bytes] = mapped_column(primary_key=True)
    organization_id: Mapped[int | None]
    event_id: Mapped[str] = mapped_column(index=True)
    subject_id: Mapped[int | None] = mapped_column(index=True)
    field: Mapped[str]
    salt: Mapped[bytes | None]
    value: Mapped[str | None]
    erased_for: Mapped[int | None]


class Erasure(Base):
    """A user whose personal data were erased, and the event of the user's deletion."""

    __tablename__ = "erasures"

    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[str]
    erased_at: Mapped[datetime] = mapped_column(default=now)


class Archive(Base):
    """A month that was moved from the database into a file; only the schema's owner writes it."""

    __tablename__ = "archives"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    month: Mapped[date]
    file: Mapped[str]
    sha256: Mapped[bytes]
    rows: Mapped[int]
    archived_at: Mapped[datetime] = mapped_column(default=now)


class ArchivedRange(Base):
    """A piece of a chain that is in an archive, and the hashes at its ends."""

    __tablename__ = "archived_ranges"

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first_position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_position: Mapped[int]
    previous_hash: Mapped[bytes]
    last_hash: Mapped[bytes]
    archive_id: Mapped[int] = mapped_column(ForeignKey(Archive.id))
