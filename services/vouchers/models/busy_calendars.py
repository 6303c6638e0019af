"""Calendars from elsewhere whose events make a resource busy."""

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from shared.db import BOOKKEEPING, SECRET, Entity


class BusyCalendar(Entity, Base):
    """The address of a resource's calendar elsewhere, which is read again and again.

    Whoever has the address can read the calendar, so it is encrypted here, and only its host is
    shown. `last_error` is a sentence, null after a success.
    """

    __tablename__ = "busy_calendars"
    entity_type = "busy_calendar"
    __table_args__ = (
        UniqueConstraint("organization_id", "resource_id"),
        ForeignKeyConstraint(
            ["organization_id", "resource_id"], ["resources.organization_id", "resources.id"]
        ),
        Index("ix_busy_calendars_next_read_at", "next_read_at"),
    )

    organization_id: Mapped[int]
    resource_id: Mapped[int]
    host: Mapped[str]
    encrypted_address: Mapped[str] = mapped_column(info=SECRET)
    next_read_at: Mapped[datetime] = mapped_column(info=BOOKKEEPING)
    last_read_at: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    failing_since: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    last_error: Mapped[str | None] = mapped_column(info=BOOKKEEPING)


class BusyTime(Base):
    """A time at which a resource is busy elsewhere; nothing else of the event is stored.

    Not a closure: those are entered by users, and each of them has an event.
    """

    __tablename__ = "busy_times"
    __table_args__ = (
        ForeignKeyConstraint(["busy_calendar_id"], ["busy_calendars.id"], ondelete="CASCADE"),
        CheckConstraint("starts_at < ends_at", "times"),
        Index("ix_busy_times_resource", "organization_id", "resource_id", "starts_at"),
    )

    busy_calendar_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    ends_at: Mapped[datetime]
    organization_id: Mapped[int]
    resource_id: Mapped[int]
