"""The classes, sessions and reservations of version 1, as the upgrade stored them. Read-only."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Identity, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from shared.db import SECRET, now


class TherapyClass(Base):
    """A class that vouchers of version 1 were sold for. Durations are minutes."""

    __tablename__ = "therapy_classes"
    __table_args__ = (UniqueConstraint("organization_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organization_id: Mapped[int]
    name: Mapped[str]
    description: Mapped[str | None]
    duration_minutes: Mapped[int]
    capacity: Mapped[int] = mapped_column(default=1)
    therapist_id: Mapped[int | None]
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class ClassSession(Base):
    """A date of a class; the therapist's notes on it are confidential."""

    __tablename__ = "sessions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
        ),
        CheckConstraint("status IN ('scheduled', 'completed', 'cancelled')", "status"),
        Index("ix_sessions_therapy_class", "organization_id", "therapy_class_id", "session_date"),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organization_id: Mapped[int]
    therapy_class_id: Mapped[int | None]
    session_date: Mapped[datetime]
    status: Mapped[str | None]
    notes: Mapped[str | None] = mapped_column(info=SECRET)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class Reservation(Base):
    """A client's reservation of a class on a date."""

    __tablename__ = "reservations"
    __table_args__ = (
        UniqueConstraint("organization_id", "client_id", "therapy_class_id", "session_date"),
        ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
        ),
        ForeignKeyConstraint(
            ["organization_id", "voucher_code_id"],
            ["voucher_codes.organization_id", "voucher_codes.id"],
        ),
        CheckConstraint("status IN ('pending', 'confirmed', 'cancelled', 'completed')", "status"),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organization_id: Mapped[int]
    client_id: Mapped[int | None]
    therapy_class_id: Mapped[int | None]
    session_date: Mapped[datetime]
    voucher_code_id: Mapped[int | None]
    status: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
