"""Voucher types: what an organization offers."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, get_args

from sqlalchemy import ARRAY, CheckConstraint, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from services.vouchers.models.validity import MAX_MONTHS, MAX_YEARS
from shared.db import Entity, now

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[str, ...] = get_args(Weekday)


class Frequency(StrEnum):
    """How often the sessions of a voucher take place."""

    DAILY = "daily"
    WEEKLY = "weekly"
    BIWEEKLY = "biweekly"
    CUSTOM = "custom"


def least_validity_checks() -> tuple[CheckConstraint, ...]:
    """Return the constraints of the least validity, of a voucher type and of its vouchers."""
    months, years = "least_validity_months", "least_validity_years"
    return (
        CheckConstraint(f"{months} BETWEEN 1 AND {MAX_MONTHS}", months),
        CheckConstraint(f"{years} BETWEEN 1 AND {MAX_YEARS}", years),
        CheckConstraint(f"{months} IS NULL OR {years} IS NULL", "least_validity_form"),
    )


class VoucherType(Entity, Base):
    """Sessions with a price and terms, which each sold voucher copies.

    Durations are minutes, validity is days, `custom_days` are ISO weekdays (Monday is 1). At most
    one of `least_validity_months` and `least_validity_years` is set: see `models.validity`.
    """

    __tablename__ = "voucher_types"
    entity_type = "voucher_type"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        CheckConstraint("total_sessions >= 1", "total_sessions"),
        CheckConstraint("backup_sessions >= 0", "backup_sessions"),
        CheckConstraint("session_duration_minutes BETWEEN 1 AND 1440", "session_duration"),
        CheckConstraint("max_clients_per_session >= 1", "max_clients_per_session"),
        CheckConstraint("frequency IN ('daily', 'weekly', 'biweekly', 'custom')", "frequency"),
        CheckConstraint("(frequency = 'custom') = (custom_days IS NOT NULL)", "custom_days"),
        CheckConstraint("price >= 0", "price"),
        CheckConstraint("validity_days >= 1", "validity_days"),
        CheckConstraint("is_active = (deactivated_at IS NULL)", "deactivated_at"),
        *least_validity_checks(),
    )

    organization_id: Mapped[int]
    name: Mapped[str]
    session_name: Mapped[str | None]
    description: Mapped[str | None]
    total_sessions: Mapped[int]
    backup_sessions: Mapped[int]
    session_duration_minutes: Mapped[int]
    max_clients_per_session: Mapped[int]
    frequency: Mapped[str]
    custom_days: Mapped[list[int] | None] = mapped_column(ARRAY(SmallInteger))
    price: Mapped[Decimal]
    currency: Mapped[str]
    validity_days: Mapped[int]
    least_validity_months: Mapped[int | None]
    least_validity_years: Mapped[int | None]
    booking_rules: Mapped[dict[str, Any]]
    booking_policy: Mapped[dict[str, Any]] = mapped_column(
        default=dict, server_default=text("'{}'")
    )
    is_active: Mapped[bool] = mapped_column(default=True)
    deactivated_at: Mapped[datetime | None]

    def deactivate(self) -> None:
        """Take the type off sale; sold vouchers stay valid."""
        self.is_active = False
        self.deactivated_at = now()

    def activate(self) -> None:
        """Put the type on sale again."""
        self.is_active = True
        self.deactivated_at = None
