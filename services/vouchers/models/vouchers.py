"""Vouchers, and the codes of their sessions."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from services.vouchers.models.copies import ClientCopy
from services.vouchers.models.validity import least_last_day
from services.vouchers.models.voucher_types import VoucherType, least_validity_checks
from shared.db import BOOKKEEPING, Entity, now


class VoucherStatus(StrEnum):
    """The states of a voucher. A trigger in the database refuses every other transition than

    pending → active → completed | expired | cancelled; pending → cancelled; completed → active
    when it has sessions again (a redemption was reversed, a refund by quote failed, or transferred
    sessions were returned); and expired → active when it has sessions and is extended.
    """

    PENDING = "pending"
    ACTIVE = "active"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class PaymentMethod(StrEnum):
    """How a voucher is paid."""

    CREDIT_CARD = "credit_card"
    BANK_TRANSFER = "bank_transfer"
    CASH = "cash"
    OTHER = "other"


class PaymentStatus(StrEnum):
    """The state of the payment, as far as payments has reported it."""

    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    REFUNDED = "refunded"
    PARTIALLY_REFUNDED = "partially_refunded"


class SessionKind(StrEnum):
    """A session that was paid for, or a spare one in place of a session that was missed."""

    REGULAR = "regular"
    BACKUP = "backup"


TERMS = (
    "name",
    "session_name",
    "total_sessions",
    "backup_sessions",
    "session_duration_minutes",
    "max_clients_per_session",
    "frequency",
    "custom_days",
    "price",
    "currency",
    "validity_days",
    "least_validity_months",
    "least_validity_years",
    "booking_rules",
    "booking_policy",
)
"""The columns that a voucher copies from its type when it is sold; later changes of the type do
not change the voucher."""


class Voucher(Entity, Base):
    """A package that a client bought.

    `valid_from` and `valid_until` (inclusive) are days in the organization's time zone. Vouchers of
    version 1 may lack some terms, and the client if they were never issued to one.
    """

    __tablename__ = "vouchers"
    entity_type = "voucher"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        ForeignKeyConstraint(
            ["organization_id", "voucher_type_id"],
            ["voucher_types.organization_id", "voucher_types.id"],
        ),
        ForeignKeyConstraint(
            ["organization_id", "therapy_class_id"],
            ["therapy_classes.organization_id", "therapy_classes.id"],
        ),
        CheckConstraint(
            "status IN ('pending', 'active', 'completed', 'expired', 'cancelled')", "status"
        ),
        CheckConstraint(
            "payment_status IN ('pending', 'paid', 'failed', 'refunded', 'partially_refunded')",
            "payment_status",
        ),
        CheckConstraint(
            "payment_method IN ('credit_card', 'bank_transfer', 'cash', 'other')", "payment_method"
        ),
        CheckConstraint(
            "used_sessions >= 0 AND refunded_sessions >= 0"
            " AND booked_sessions >= 0 AND transferred_sessions >= 0"
            " AND used_sessions + refunded_sessions + booked_sessions + transferred_sessions"
            " <= total_sessions",
            "used_sessions",
        ),
        CheckConstraint("used_backup_sessions BETWEEN 0 AND backup_sessions", "used_backup"),
        CheckConstraint(
            "status IN ('pending', 'cancelled') OR valid_until IS NOT NULL", "validity_known"
        ),
        CheckConstraint("valid_until >= least_valid_until", "least_validity"),
        *least_validity_checks(),
        CheckConstraint(
            "status <> 'completed'"
            " OR used_sessions + refunded_sessions + transferred_sessions = total_sessions",
            "completed",
        ),
        Index("ix_vouchers_organization_client", "organization_id", "client_id", "id"),
        Index("ix_vouchers_organization_status", "organization_id", "status", "id"),
        Index("ix_vouchers_organization_type", "organization_id", "voucher_type_id", "id"),
        Index("ix_vouchers_client", "client_id", "id"),
        Index(
            "ix_vouchers_guardian",
            "guardian_id",
            "id",
            postgresql_where=text("guardian_id IS NOT NULL"),
        ),
        ForeignKeyConstraint(
            ["organization_id", "received_from_id"],
            ["vouchers.organization_id", "vouchers.id"],
            name="fk_vouchers_received_from",
        ),
        Index(
            "ix_vouchers_received_from",
            "organization_id",
            "received_from_id",
            "id",
            postgresql_where=text("received_from_id IS NOT NULL"),
        ),
        Index(
            "ix_vouchers_running_out",
            "valid_until",
            postgresql_where=text("status = 'active'"),
        ),
        Index(
            "ix_vouchers_unpaid",
            "created_at",
            postgresql_where=text("status = 'pending'"),
        ),
    )

    organization_id: Mapped[int]
    client_id: Mapped[int | None]
    # The client who acts for the voucher's client, if that is a dependant.
    guardian_id: Mapped[int | None] = mapped_column(info=BOOKKEEPING)
    voucher_type_id: Mapped[int | None]
    voucher_type_version: Mapped[int | None]
    therapy_class_id: Mapped[int | None]
    name: Mapped[str]
    session_name: Mapped[str | None]
    total_sessions: Mapped[int]
    backup_sessions: Mapped[int]
    session_duration_minutes: Mapped[int | None]
    max_clients_per_session: Mapped[int | None]
    frequency: Mapped[str | None]
    custom_days: Mapped[list[int] | None] = mapped_column(ARRAY(SmallInteger))
    price: Mapped[Decimal | None]
    currency: Mapped[str | None]
    validity_days: Mapped[int | None]
    least_validity_months: Mapped[int | None]
    least_validity_years: Mapped[int | None]
    booking_rules: Mapped[dict[str, Any]]
    booking_policy: Mapped[dict[str, Any]] = mapped_column(
        default=dict, server_default=text("'{}'")
    )
    # The sum of the redemptions, stored here so that the balance is read with the voucher.
    used_sessions: Mapped[int] = mapped_column(default=0, info=BOOKKEEPING)
    used_backup_sessions: Mapped[int] = mapped_column(default=0, info=BOOKKEEPING)
    # Regular sessions whose money was refunded or is being refunded. The server has the default,
    # because processes of the version before insert vouchers without this column.
    refunded_sessions: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    # Regular sessions that reservations have earmarked: see `Reservation`.
    booked_sessions: Mapped[int] = mapped_column(
        default=0, server_default=text("0"), info=BOOKKEEPING
    )
    # Regular sessions that other clients have received: see `TransferEntry`.
    transferred_sessions: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    received_from_id: Mapped[int | None]
    """The voucher whose sessions this one received; only that one has a payment."""
    disputed_at: Mapped[datetime | None]
    purchase_date: Mapped[date]
    valid_from: Mapped[date | None]
    valid_until: Mapped[date | None]
    # The earliest last day that the terms allow. It is known, and fixed, from the payment on.
    least_valid_until: Mapped[date | None]
    status: Mapped[str] = mapped_column(default=VoucherStatus.PENDING)
    payment_method: Mapped[str | None]
    payment_status: Mapped[str] = mapped_column(default=PaymentStatus.PENDING)
    payment_amount: Mapped[Decimal | None]
    payment_date: Mapped[datetime | None]
    invoice_number: Mapped[str | None]
    notes: Mapped[str | None]

    @staticmethod
    def sold(voucher_type: VoucherType, **purchase: Any) -> dict[str, Any]:
        """Return the values of a new pending voucher, with a copy of the type's terms."""
        terms = {name: getattr(voucher_type, name) for name in TERMS}
        return {
            "organization_id": voucher_type.organization_id,
            "voucher_type_id": voucher_type.id,
            "voucher_type_version": voucher_type.version,
            "payment_amount": voucher_type.price,
            "status": VoucherStatus.PENDING,
            "payment_status": PaymentStatus.PENDING,
            "used_sessions": 0,
            "used_backup_sessions": 0,
            "refunded_sessions": 0,
            "booked_sessions": 0,
            "transferred_sessions": 0,
            **terms,
            **purchase,
        }

    def part_for(self, client: ClientCopy, sessions: int) -> "Voucher":
        """Return a new voucher with some sessions of this one, for another client.

        Nothing is paid for it, and backup sessions stay with this one.
        """
        names = (
            "organization_id",
            "voucher_type_id",
            "voucher_type_version",
            "therapy_class_id",
            "purchase_date",
            "valid_from",
            "valid_until",
            "least_valid_until",
            *TERMS,
        )
        own: dict[str, Any] = {
            "total_sessions": sessions,
            "backup_sessions": 0,
            "price": Decimal("0.00"),
        }
        return Voucher(
            **{**{name: getattr(self, name) for name in names}, **own},
            client_id=client.id,
            guardian_id=client.guardian_id,
            received_from_id=self.id,
            status=VoucherStatus.ACTIVE,
            payment_status=PaymentStatus.PAID,
            payment_amount=Decimal("0.00"),
            used_sessions=0,
            used_backup_sessions=0,
            refunded_sessions=0,
            booked_sessions=0,
            transferred_sessions=0,
        )

    @property
    def regular_sessions_left(self) -> int:
        """Regular sessions that are neither used nor refunded nor transferred."""
        gone = self.refunded_sessions + self.transferred_sessions
        return self.total_sessions - self.used_sessions - gone

    @property
    def bookable_sessions(self) -> int:
        """Regular sessions that are left and not booked."""
        return self.regular_sessions_left - self.booked_sessions

    @property
    def backup_sessions_left(self) -> int:
        """Backup sessions that are not used."""
        return self.backup_sessions - self.used_backup_sessions

    def sessions_left(self, kind: str) -> int:
        """Return how many sessions of a kind are left."""
        return (
            self.backup_sessions_left if kind == SessionKind.BACKUP else self.regular_sessions_left
        )

    def spend(self, kind: str, sessions: int = 1) -> None:
        """Count sessions as used; a negative number makes them usable again."""
        if kind == SessionKind.BACKUP:
            self.used_backup_sessions += sessions
        else:
            self.used_sessions += sessions

    def activation(self, paid_on: date) -> dict[str, Any]:
        """Return the changes by which the validity begins on the day of payment.

        A least validity, which only paid vouchers have, may make it longer than `validity_days`.
        Only vouchers of version 1 have no `validity_days`.
        """
        assert self.validity_days is not None
        last_day = paid_on + timedelta(days=self.validity_days - 1)
        least = None
        if self.price:
            least = least_last_day(
                paid_on,
                self.purchase_date,
                months=self.least_validity_months,
                years=self.least_validity_years,
            )
        return {
            "status": VoucherStatus.ACTIVE,
            "valid_from": paid_on,
            "valid_until": max(last_day, least or last_day),
            "least_valid_until": least,
        }


class VoucherCode(Base):
    """One session of a voucher, as the client shows it to the therapist.

    The code alone is enough to use the session, so no event contains it. Some codes of version 1
    belong to no voucher.
    """

    __tablename__ = "voucher_codes"
    __table_args__ = (
        UniqueConstraint("organization_id", "voucher_id", "id"),
        UniqueConstraint("organization_id", "id"),
        ForeignKeyConstraint(
            ["organization_id", "voucher_id"], ["vouchers.organization_id", "vouchers.id"]
        ),
        CheckConstraint("is_used OR (used_at IS NULL AND used_by IS NULL)", "unused"),
        CheckConstraint("NOT (is_used AND is_refunded)", "refunded"),
        CheckConstraint("NOT (is_transferred AND (is_used OR is_refunded))", "transferred"),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organization_id: Mapped[int]
    voucher_id: Mapped[int | None]
    client_id: Mapped[int | None]
    code: Mapped[str] = mapped_column(unique=True)
    is_backup: Mapped[bool] = mapped_column(default=False)
    is_used: Mapped[bool] = mapped_column(default=False)
    is_refunded: Mapped[bool] = mapped_column(default=False, server_default=false())
    is_transferred: Mapped[bool] = mapped_column(default=False, server_default=false())
    used_at: Mapped[datetime | None]
    used_by: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def kind(self) -> SessionKind:
        """The kind of the code's session."""
        return SessionKind.BACKUP if self.is_backup else SessionKind.REGULAR

    @staticmethod
    def use_by(user_id: int | None) -> dict[str, Any]:
        """Return the changes that mark a code as used now, by a user or, with None, the system."""
        return {"is_used": True, "used_at": now(), "used_by": user_id}

    def free(self) -> None:
        """Make the code usable again after a reversal."""
        self.is_used, self.used_at, self.used_by = False, None, None
