"""Redemptions of sessions, and adjustments of a voucher's validity."""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Identity, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from shared.db import SECRET, Entity, now


class Reason(StrEnum):
    """Why a backup session was used."""

    MISSED = "missed"
    LATE_CANCELLED = "late_cancelled"


class Redemption(Entity, Base):
    """The use of one session or, with `reversal_of`, the reversal of a redemption.

    Rows never change. `note` is written by the therapist and confidential: no event contains it.
    `therapist_id` is null in rows of the upgrade from version 1, which did not store who redeemed a
    session. `reservation_id` is the reservation that the redemption settled, if there was one;
    a reversal has that of its redemption.
    """

    __tablename__ = "redemptions"
    entity_type = "redemption"
    __table_args__ = (
        UniqueConstraint("organization_id", "voucher_id", "id"),
        ForeignKeyConstraint(
            ["organization_id", "voucher_id"], ["vouchers.organization_id", "vouchers.id"]
        ),
        ForeignKeyConstraint(
            ["organization_id", "voucher_id", "voucher_code_id"],
            ["voucher_codes.organization_id", "voucher_codes.voucher_id", "voucher_codes.id"],
            name="fk_redemptions_voucher_code",
        ),
        # Only a row of the same voucher can be reversed, and only once.
        ForeignKeyConstraint(
            ["organization_id", "voucher_id", "reversal_of"],
            ["redemptions.organization_id", "redemptions.voucher_id", "redemptions.id"],
            name="fk_redemptions_reversal_of",
        ),
        # Added after both tables, because reservations refer to redemptions too.
        ForeignKeyConstraint(
            ["organization_id", "reservation_id"],
            ["reservations.organization_id", "reservations.id"],
            name="fk_redemptions_reservation",
            use_alter=True,
        ),
        UniqueConstraint("reversal_of"),
        CheckConstraint("kind IN ('regular', 'backup')", "kind"),
        CheckConstraint("reason IN ('missed', 'late_cancelled')", "reason"),
    )

    organization_id: Mapped[int]
    voucher_id: Mapped[int]
    client_id: Mapped[int | None]
    voucher_code_id: Mapped[int | None]
    kind: Mapped[str]
    session_date: Mapped[date]
    therapist_id: Mapped[int | None]
    reversal_of: Mapped[int | None]
    reason: Mapped[str | None]
    reservation_id: Mapped[int | None]
    note: Mapped[str | None] = mapped_column(info=SECRET)


class AdjustmentKind(StrEnum):
    """What moved a voucher's last day."""

    FREEZE = "freeze"
    EXTENSION = "extension"


class Adjustment(Base):
    """A freeze or an extension: `days` were added to `valid_until`, until it is reversed.

    A freeze lasts from `starts_on` to `ends_on`, both inclusive; an extension has neither.
    The voucher's events contain who made it, when and why.
    """

    __tablename__ = "adjustments"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "voucher_id"], ["vouchers.organization_id", "vouchers.id"]
        ),
        Index("ix_adjustments_voucher", "organization_id", "voucher_id", "id"),
        CheckConstraint("kind IN ('freeze', 'extension')", "kind"),
        CheckConstraint("days >= 1", "days"),
        CheckConstraint(
            "(kind = 'freeze') = (starts_on IS NOT NULL AND ends_on IS NOT NULL)", "freeze"
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organization_id: Mapped[int]
    voucher_id: Mapped[int]
    client_id: Mapped[int | None]
    kind: Mapped[str]
    starts_on: Mapped[date | None]
    ends_on: Mapped[date | None]
    days: Mapped[int]
    reason: Mapped[str]
    made_by: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
    reversed_at: Mapped[datetime | None]
    reversed_by: Mapped[int | None]
