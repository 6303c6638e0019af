"""Reservations: a client's place in a session, paid by a voucher. Reminders and feeds."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    false,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from shared.db import BOOKKEEPING, SECRET, Entity


class HeldFor(StrEnum):
    """What a held reservation waits for."""

    CHECKOUT = "checkout"
    APPROVAL = "approval"
    OFFER = "offer"


class Attestation(StrEnum):
    """Who attested that a session took place: the staff, or the client by a code or a signature.

    A timer marks sessions that nobody marked. Its mark attests nothing.
    """

    STAFF = "staff"
    CODE = "code"
    SIGNATURE = "signature"
    TIMER = "timer"


class Reservation(Entity, Base):
    """A client's place in a session, or in its waiting list.

    A trigger of the database allows only these steps: waitlisted → held | booked | cancelled;
    held → booked | cancelled; booked → attended | no_show | late_cancelled | cancelled; and back
    from attended, no_show and late_cancelled to booked, when the redemption is reversed.

    `starts_at` and `ends_at` are those of the session; the foreign key updates them. `period` is
    the period of the voucher's frequency. `overrides` are the reasons that a manager of bookings
    overrode. `reason` is a text of whoever cancelled, or `session_cancelled`, `voucher_cancelled`,
    `refunded`, `voucher_frozen` or `client_deleted`. `settled_at` of a booked reservation is when
    its redemption was reversed: no timer settles it again. `reminders_for` is the start for which
    reminders were planned.

    `therapy_class_id` and `voucher_code_id` are of version 1. Reservations of version 1 may lack a
    client, a voucher, and the redemption of a session that was attended.
    """

    __tablename__ = "reservations"
    entity_type = "reservation"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("redemption_id"),
        ForeignKeyConstraint(
            ["organization_id", "session_id", "starts_at", "ends_at"],
            [
                "sessions.organization_id",
                "sessions.id",
                "sessions.starts_at",
                "sessions.ends_at",
            ],
            name="fk_reservations_session",
            onupdate="CASCADE",
        ),
        ForeignKeyConstraint(
            ["organization_id", "voucher_id"],
            ["vouchers.organization_id", "vouchers.id"],
        ),
        ForeignKeyConstraint(
            ["organization_id", "voucher_id", "redemption_id"],
            ["redemptions.organization_id", "redemptions.voucher_id", "redemptions.id"],
            name="fk_reservations_redemption",
        ),
        ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
        ),
        ForeignKeyConstraint(
            ["organization_id", "voucher_code_id"],
            ["voucher_codes.organization_id", "voucher_codes.id"],
        ),
        CheckConstraint(
            "status IN ('waitlisted', 'held', 'booked', 'attended', 'no_show', 'late_cancelled',"
            " 'cancelled')",
            "status",
        ),
        CheckConstraint("held_for IN ('checkout', 'approval', 'offer')", "held_for"),
        CheckConstraint("(status = 'held') = (held_until IS NOT NULL)", "held_until"),
        CheckConstraint("attestation IN ('staff', 'code', 'signature', 'timer')", "attestation"),
        Index(
            "uq_reservations_place",
            "organization_id",
            "session_id",
            "client_id",
            unique=True,
            postgresql_where=text("status IN ('waitlisted', 'held', 'booked', 'attended')"),
        ),
        Index(
            "uq_reservations_period",
            "organization_id",
            "voucher_id",
            "period",
            unique=True,
            postgresql_where=text("status IN ('held', 'booked', 'attended')"),
        ),
        # With the organization: a booking in another one must not show.
        ExcludeConstraint(
            (literal_column("int8range(organization_id, organization_id, '[]')"), "&&"),
            (literal_column("int8range(client_id, client_id, '[]')"), "&&"),
            (literal_column("tstzrange(starts_at, ends_at)"), "&&"),
            where=text(
                "status IN ('held', 'booked') AND client_id IS NOT NULL AND NOT may_overlap"
            ),
            name="ex_reservations_client",
        ),
        Index("ix_reservations_client", "organization_id", "client_id", "starts_at", "id"),
        Index("ix_reservations_voucher", "organization_id", "voucher_id", "starts_at"),
        Index("ix_reservations_session", "organization_id", "session_id", "status", "id"),
        Index("ix_reservations_own", "client_id", "starts_at", "id"),
        Index(
            "ix_reservations_guardian",
            "guardian_id",
            "starts_at",
            "id",
            postgresql_where=text("guardian_id IS NOT NULL"),
        ),
        Index("ix_reservations_held", "held_until", postgresql_where=text("status = 'held'")),
        Index("ix_reservations_open", "ends_at", postgresql_where=text("status = 'booked'")),
        Index(
            "ix_reservations_unplanned",
            "starts_at",
            postgresql_where=text("status = 'booked' AND reminders_for IS DISTINCT FROM starts_at"),
        ),
        Index(
            "ix_reservations_waiting",
            "session_id",
            "id",
            postgresql_where=text("status = 'waitlisted'"),
        ),
    )

    organization_id: Mapped[int]
    client_id: Mapped[int | None]
    # The client who acts for the reservation's client, if that is a dependant.
    guardian_id: Mapped[int | None] = mapped_column(info=BOOKKEEPING)
    voucher_id: Mapped[int | None]
    session_id: Mapped[int]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    status: Mapped[str]
    held_for: Mapped[str | None]
    held_until: Mapped[datetime | None]
    period: Mapped[int | None]
    redemption_id: Mapped[int | None]
    booked_by: Mapped[int | None]
    overrides: Mapped[list[str]] = mapped_column(
        ARRAY(Text), default=list, server_default=text("'{}'")
    )
    override_reason: Mapped[str | None]
    may_overlap: Mapped[bool] = mapped_column(default=False, server_default=false())
    reason: Mapped[str | None]
    attestation: Mapped[str | None]
    settled_by: Mapped[int | None]
    settled_at: Mapped[datetime | None]
    note: Mapped[str | None] = mapped_column(info=SECRET)
    reminders_for: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    therapy_class_id: Mapped[int | None]
    voucher_code_id: Mapped[int | None]

    @property
    def is_attested(self) -> bool:
        """Whether a person attested that the session took place."""
        return self.attestation not in (None, Attestation.TIMER)


class Reminder(Base):
    """A reminder of a reservation, due a number of minutes before its session."""

    __tablename__ = "reminders"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "reservation_id"],
            ["reservations.organization_id", "reservations.id"],
        ),
        Index("ix_reminders_due", "due_at", postgresql_where=text("sent_at IS NULL")),
    )

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reservation_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    minutes_before: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    due_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]


class FeedScope(StrEnum):
    """Whose sessions a calendar feed contains: those that a user books, or gives."""

    CLIENT = "client"
    THERAPIST = "therapist"


class FeedDetail(StrEnum):
    """Whether the events of a feed name people."""

    TIMES = "times"
    NAMES = "names"


class CalendarFeed(Entity, Base):
    """A subscription to a user's sessions. Of the token in its address only a digest is stored."""

    __tablename__ = "calendar_feeds"
    entity_type = "calendar_feed"
    __table_args__ = (
        UniqueConstraint("token_hash"),
        Index("ix_calendar_feeds_user", "organization_id", "user_id", "id"),
        CheckConstraint("scope IN ('client', 'therapist')", "scope"),
        CheckConstraint("detail IN ('times', 'names')", "detail"),
    )

    organization_id: Mapped[int]
    user_id: Mapped[int]
    scope: Mapped[str]
    detail: Mapped[str] = mapped_column(default=FeedDetail.TIMES)
    token_hash: Mapped[str] = mapped_column(info=SECRET)
    last_read_at: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    revoked_at: Mapped[datetime | None]
