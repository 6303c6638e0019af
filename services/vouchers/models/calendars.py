"""When sessions can take place: booking settings, resources, their hours, and closures."""

from datetime import date
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from shared.db import SECRET, Entity, WallClock


class BookingSettings(Entity, Base):
    """How an organization takes bookings. An organization without a row has the defaults.

    `clients_book`: clients book by themselves. `therapists_edit_hours`: therapists change their own
    hours and closures. `feed_names`: calendar feeds may contain the names of clients.
    `default_policy` has the fields of a booking policy that voucher types of this organization have
    unless they state others.
    """

    __tablename__ = "booking_settings"
    entity_type = "booking_settings"
    __table_args__ = (UniqueConstraint("organization_id"),)

    organization_id: Mapped[int]
    clients_book: Mapped[bool] = mapped_column(default=True)
    therapists_edit_hours: Mapped[bool] = mapped_column(default=True)
    feed_names: Mapped[bool] = mapped_column(default=False)
    default_policy: Mapped[dict[str, Any]] = mapped_column(default=dict)


class ResourceKind(StrEnum):
    """What a session occupies."""

    THERAPIST = "therapist"
    ROOM = "room"
    EQUIPMENT = "equipment"


class Resource(Entity, Base):
    """A therapist, a room or a piece of equipment: it is in one session at a time.

    A therapist has a user and no name: the name is in the copy of the user, so that it is erased
    with it. `timezone` is that of the working hours and closures, null for the organization's.
    The buffers are minutes before and after each session.
    """

    __tablename__ = "resources"
    entity_type = "resource"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("organization_id", "user_id"),
        CheckConstraint("kind IN ('therapist', 'room', 'equipment')", "kind"),
        CheckConstraint(
            "(kind = 'therapist') = (user_id IS NOT NULL)"
            " AND (kind = 'therapist') = (name IS NULL)",
            "named",
        ),
        CheckConstraint("buffer_before_minutes BETWEEN 0 AND 1440", "buffer_before_minutes"),
        CheckConstraint("buffer_after_minutes BETWEEN 0 AND 1440", "buffer_after_minutes"),
    )

    organization_id: Mapped[int]
    kind: Mapped[str]
    user_id: Mapped[int | None]
    name: Mapped[str | None]
    timezone: Mapped[str | None]
    buffer_before_minutes: Mapped[int] = mapped_column(default=0)
    buffer_after_minutes: Mapped[int] = mapped_column(default=0)
    is_active: Mapped[bool] = mapped_column(default=True)


class ResourceVoucherType(Base):
    """A voucher type whose sessions a resource is for. A resource without any is for all types."""

    __tablename__ = "resource_voucher_types"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "resource_id"], ["resources.organization_id", "resources.id"]
        ),
        ForeignKeyConstraint(
            ["organization_id", "voucher_type_id"],
            ["voucher_types.organization_id", "voucher_types.id"],
            name="fk_resource_voucher_types_type",
            ondelete="CASCADE",
        ),
    )

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    resource_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    voucher_type_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class WorkingHours(Base):
    """Weekly hours of a resource, by the wall clock of its zone.

    `weekday` is an ISO weekday, the times are minutes since 00:00, and both days are inclusive.
    The hours of a resource are replaced as a whole, and the event of the resource lists them.
    """

    __tablename__ = "working_hours"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "resource_id"], ["resources.organization_id", "resources.id"]
        ),
        Index("ix_working_hours_resource", "organization_id", "resource_id"),
        CheckConstraint("weekday BETWEEN 1 AND 7", "weekday"),
        CheckConstraint(
            "start_minute >= 0 AND start_minute < end_minute AND end_minute <= 1440", "minutes"
        ),
        CheckConstraint("from_date <= until_date", "dates"),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organization_id: Mapped[int]
    resource_id: Mapped[int]
    weekday: Mapped[int] = mapped_column(SmallInteger)
    start_minute: Mapped[int]
    end_minute: Mapped[int]
    from_date: Mapped[date | None]
    until_date: Mapped[date | None]


class ClosureKind(StrEnum):
    """Whether a closure takes time away from the working hours or adds time to them."""

    CLOSED = "closed"
    OPEN = "open"


MANUAL = "manual"
"""The source of a closure that a user entered."""

HOLIDAY = "holiday:"
"""What the source of a public holiday begins with: `holiday:PL`, `holiday:DE-BY`."""


class Closure(Entity, Base):
    """A time at which a resource is not there, or is there beyond its hours.

    Without a resource it is for the whole organization. The times are those of the wall clock of
    the resource's zone, without a zone of their own. The reason is confidential: an illness is
    health data (GDPR, article 9), so no event contains it.
    """

    __tablename__ = "closures"
    entity_type = "closure"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "resource_id"], ["resources.organization_id", "resources.id"]
        ),
        Index("ix_closures_resource", "organization_id", "resource_id", "starts_local"),
        CheckConstraint("kind IN ('closed', 'open')", "kind"),
        CheckConstraint("starts_local < ends_local", "times"),
    )

    organization_id: Mapped[int]
    resource_id: Mapped[int | None]
    kind: Mapped[str] = mapped_column(default=ClosureKind.CLOSED)
    starts_local: Mapped[WallClock]
    ends_local: Mapped[WallClock]
    reason: Mapped[str | None] = mapped_column(info=SECRET)
    source: Mapped[str] = mapped_column(default=MANUAL, server_default=text("'manual'"))
