"""Sessions at a time: classes, their series, single sessions, and the time that they occupy."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    UniqueConstraint,
    false,
    literal_column,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from shared.db import BOOKKEEPING, SECRET, Entity, WallClock


class TherapyClass(Entity, Base):
    """A kind of session that several clients can take part in. Durations are minutes.

    Version 1 sold vouchers for a class; its classes have the same ids.
    """

    __tablename__ = "therapy_classes"
    entity_type = "therapy_class"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        ForeignKeyConstraint(
            ["organization_id", "room_id"],
            ["resources.organization_id", "resources.id"],
            name="fk_therapy_classes_room",
        ),
        CheckConstraint("capacity >= 1", "capacity"),
        CheckConstraint("duration_minutes BETWEEN 1 AND 1440", "duration_minutes"),
    )

    organization_id: Mapped[int]
    name: Mapped[str]
    description: Mapped[str | None]
    duration_minutes: Mapped[int]
    capacity: Mapped[int] = mapped_column(default=1)
    therapist_id: Mapped[int | None]
    room_id: Mapped[int | None]
    is_active: Mapped[bool] = mapped_column(default=True)


class ClassVoucherType(Base):
    """A voucher type that pays for a class. A class without any takes every type of its size."""

    __tablename__ = "class_voucher_types"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
            name="fk_class_voucher_types_class",
        ),
        ForeignKeyConstraint(
            ["organization_id", "voucher_type_id"],
            ["voucher_types.organization_id", "voucher_types.id"],
            name="fk_class_voucher_types_type",
            ondelete="CASCADE",
        ),
    )

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    therapy_class_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    voucher_type_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class SeriesStatus(StrEnum):
    """Whether a series still makes sessions."""

    ACTIVE = "active"
    ENDED = "ended"


class SessionSeries(Entity, Base):
    """Sessions of a class at one local time on weekdays of every n-th ISO week.

    Its sessions exist up to `made_until`, inclusive; `last_date` is null for a series without end.
    Its local time is that of `timezone`, also after the organization moved to another zone.
    `organization_timezone` is the zone of the organization when `timezone` was chosen: if the
    organization has another one now, somebody must decide. `follows_id` is the series that this one
    continues with other rules.
    """

    __tablename__ = "session_series"
    entity_type = "session_series"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
            name="fk_session_series_class",
        ),
        ForeignKeyConstraint(
            ["organization_id", "follows_id"],
            ["session_series.organization_id", "session_series.id"],
            name="fk_session_series_follows",
        ),
        Index("ix_session_series_class", "organization_id", "therapy_class_id"),
        Index("ix_session_series_active", "made_until", postgresql_where=text("status = 'active'")),
        CheckConstraint("status IN ('active', 'ended')", "status"),
        CheckConstraint("every_weeks >= 1", "every_weeks"),
        CheckConstraint("start_minute BETWEEN 0 AND 1439", "start_minute"),
        CheckConstraint("duration_minutes BETWEEN 1 AND 1440", "duration_minutes"),
        CheckConstraint("capacity >= 1", "capacity"),
        CheckConstraint("first_date <= last_date", "dates"),
    )

    organization_id: Mapped[int]
    therapy_class_id: Mapped[int]
    resource_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    timezone: Mapped[str]
    weekdays: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    every_weeks: Mapped[int] = mapped_column(default=1)
    start_minute: Mapped[int]
    duration_minutes: Mapped[int]
    capacity: Mapped[int]
    first_date: Mapped[date]
    last_date: Mapped[date | None]
    made_until: Mapped[date | None]
    status: Mapped[str] = mapped_column(default=SeriesStatus.ACTIVE)
    organization_timezone: Mapped[str]
    follows_id: Mapped[int | None]


class SessionStatus(StrEnum):
    """The states of a session: scheduled → completed | cancelled."""

    SCHEDULED = "scheduled"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class ClassSession(Entity, Base):
    """A session at a time: of a class, or on demand for the client who booked it first.

    `starts_local` is what the clock of `timezone` shows at `starts_at`. `resource_ids` are the
    therapist, room and equipment, and `therapist_id` is the user of the first therapist among them.
    The rows of `occupations` block their time until the session has ended or is cancelled.
    `seats_taken` counts the reservations with a seat. The therapist's notes are confidential,
    and so is why a session was cancelled: it may be an illness.
    """

    __tablename__ = "sessions"
    entity_type = "session"
    __table_args__ = (
        UniqueConstraint("organization_id", "id", "starts_at", "ends_at"),
        UniqueConstraint("series_id", "series_date"),
        ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
        ),
        ForeignKeyConstraint(
            ["organization_id", "series_id"],
            ["session_series.organization_id", "session_series.id"],
            name="fk_sessions_series",
        ),
        CheckConstraint("status IN ('scheduled', 'completed', 'cancelled')", "status"),
        CheckConstraint("starts_at < ends_at", "times"),
        CheckConstraint("seats_taken BETWEEN 0 AND capacity", "seats_taken"),
        Index("ix_sessions_starts", "organization_id", "starts_at", "id"),
        Index("ix_sessions_therapist", "organization_id", "therapist_id", "starts_at", "id"),
        Index("ix_sessions_therapy_class", "organization_id", "therapy_class_id", "starts_at"),
    )

    organization_id: Mapped[int]
    therapy_class_id: Mapped[int | None]
    series_id: Mapped[int | None]
    series_date: Mapped[date | None]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    timezone: Mapped[str]
    starts_local: Mapped[WallClock]
    therapist_id: Mapped[int | None]
    resource_ids: Mapped[list[int]] = mapped_column(
        ARRAY(BigInteger), default=list, server_default=text("'{}'")
    )
    capacity: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    seats_taken: Mapped[int] = mapped_column(default=0, server_default=text("0"), info=BOOKKEEPING)
    on_demand: Mapped[bool] = mapped_column(default=False, server_default=false())
    status: Mapped[str] = mapped_column(default=SessionStatus.SCHEDULED)
    cancelled_reason: Mapped[str | None] = mapped_column(info=SECRET)
    notes: Mapped[str | None] = mapped_column(info=SECRET)

    @property
    def seats_left(self) -> int:
        """How many clients can still take part."""
        return self.capacity - self.seats_taken


class Occupation(Base):
    """The time of a resource that a session blocks, with the resource's buffers.

    The database refuses two that overlap, unless one is not `enforced`. `int8range(x, x, '[]')`
    means `=`: a GiST index compares plain numbers only with the extension btree_gist, which
    not every server has.
    """

    __tablename__ = "occupations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "resource_id"], ["resources.organization_id", "resources.id"]
        ),
        ForeignKeyConstraint(["session_id"], ["sessions.id"]),
        CheckConstraint("NOT isempty(blocked)", "blocked"),
        ExcludeConstraint(
            (literal_column("int8range(resource_id, resource_id, '[]')"), "&&"),
            (literal_column("blocked"), "&&"),
            where=text("enforced"),
            name="ex_occupations_resource",
        ),
        Index("ix_occupations_resource", "organization_id", "resource_id"),
    )

    organization_id: Mapped[int]
    session_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    resource_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    blocked: Mapped[Any] = mapped_column(TSTZRANGE, nullable=False)
    enforced: Mapped[bool] = mapped_column(default=True, server_default=true())
