"""Refunds by a gateway, and repayments by hand."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.payments.gateways import RefundOrder
from services.payments.models.base import Base
from services.payments.models.payments import PaymentTransaction
from shared.db import BOOKKEEPING, SECRET, Entity


class RefundStatus(StrEnum):
    """The state of a refund."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RefundSource(StrEnum):
    """Who asked for a refund."""

    STAFF = "staff"
    GATEWAY = "gateway"  # at the gateway's own console
    CANCELLATION = "cancellation"  # the voucher was cancelled


class RepaymentReason(StrEnum):
    """Why a person must give money back, and not a gateway."""

    VOUCHER_CANCELLED = "voucher_cancelled"  # paid by hand; the voucher was never active
    REFUND_FAILED = "refund_failed"  # the gateway cannot give a cancelled voucher's money back
    REFUND_RETURNED = "refund_returned"  # refunded, and the payer's bank sent it back


class RepaymentStatus(StrEnum):
    """The state of a repayment."""

    DUE = "due"
    SETTLED = "settled"


class Refund(Entity, Base):
    """Money on its way back; while it is pending no other refund can use its amount."""

    __tablename__ = "refunds"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "transaction_id"],
            ["payment_transactions.organization_id", "payment_transactions.id"],
        ),
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("payment_gateway", "gateway_refund_id"),
        UniqueConstraint("quote_id"),
        CheckConstraint("amount > 0", name="amount_positive"),
        Index("ix_refunds_transaction_id", "transaction_id"),
        Index(
            "ix_refunds_pending_attempted_at",
            "attempted_at",
            postgresql_where=text("status = 'pending'"),
        ),
    )
    entity_type = "refund"

    organization_id: Mapped[int]
    transaction_id: Mapped[int]
    client_id: Mapped[int]
    amount: Mapped[Decimal]
    currency: Mapped[str]
    reason: Mapped[str | None]
    quote_id: Mapped[int | None]
    source: Mapped[str]
    status: Mapped[str] = mapped_column(default=RefundStatus.PENDING)
    failure_message: Mapped[str | None]
    payment_gateway: Mapped[str]
    gateway_refund_id: Mapped[str | None] = mapped_column(info=BOOKKEEPING)
    gateway_response: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), info=SECRET
    )
    completed_at: Mapped[datetime | None]
    attempted_at: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)

    def order(self, payment: PaymentTransaction) -> RefundOrder:
        """Return what the gateway is to refund, from the account that was paid."""
        return RefundOrder(
            account=payment.account,
            refund_id=self.id,
            amount=self.amount,
            currency=self.currency,
            returns_fee=payment.platform_fee > 0,
        )


class Repayment(Entity, Base):
    """Money that a person must give back, because no gateway does.

    `refund_id` is the refund that failed or was returned; `amount` is what is due, or was.
    """

    __tablename__ = "repayments"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "transaction_id"],
            ["payment_transactions.organization_id", "payment_transactions.id"],
        ),
        ForeignKeyConstraint(
            ["organization_id", "refund_id"], ["refunds.organization_id", "refunds.id"]
        ),
        UniqueConstraint("refund_id"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("status IN ('due', 'settled')", name="status_known"),
        CheckConstraint("(status = 'due') = (settled_at IS NULL)", name="settled_at"),
        Index(
            "uq_repayments_due_transaction_id",
            "transaction_id",
            unique=True,
            postgresql_where=text("status = 'due' AND refund_id IS NULL"),
        ),
        Index("ix_repayments_transaction_id", "transaction_id"),
        Index("ix_repayments_organization_id_id", "organization_id", "id"),
        Index("ix_repayments_due_reason", "reason", postgresql_where=text("status = 'due'")),
    )
    entity_type = "repayment"

    organization_id: Mapped[int]
    transaction_id: Mapped[int]
    voucher_id: Mapped[int]
    client_id: Mapped[int]
    refund_id: Mapped[int | None]
    amount: Mapped[Decimal]
    currency: Mapped[str]
    reason: Mapped[str]
    status: Mapped[str] = mapped_column(default=RepaymentStatus.DUE)
    note: Mapped[str | None] = mapped_column(info=SECRET)
    settled_at: Mapped[datetime | None]
