"""Payouts of connected accounts, and the changes of a balance that they consist of."""

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Identity,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.payments.models.base import Base
from shared.db import BOOKKEEPING, Entity


class Reconciliation(StrEnum):
    """Whether a payout is the sum of lines that are in our books."""

    PENDING = "pending"  # the gateway has not listed all lines yet
    MATCHED = "matched"
    MISMATCHED = "mismatched"  # a person must examine it
    UNLISTED = "unlisted"  # the owner chose the amount: no gateway lists lines for it


class Payout(Entity, Base):
    """Money that a gateway sends from an organization's account to the owner's bank.

    `difference` is the amount less the sum of its lines, null if there is nothing to compare.
    `unknown_lines` counts those that our books do not have.
    """

    __tablename__ = "payouts"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("payment_gateway", "gateway_payout_id"),
        CheckConstraint(
            "status IN ('pending', 'in_transit', 'paid', 'failed', 'cancelled')",
            name="status_known",
        ),
        CheckConstraint(
            "reconciliation IN ('pending', 'matched', 'mismatched', 'unlisted')",
            name="reconciliation_known",
        ),
        Index(
            "ix_payouts_mismatched_organization_id",
            "organization_id",
            postgresql_where=text("reconciliation = 'mismatched'"),
        ),
    )
    entity_type = "payout"

    organization_id: Mapped[int]
    payment_gateway: Mapped[str]
    gateway_account: Mapped[str]
    gateway_payout_id: Mapped[str]
    amount: Mapped[Decimal]
    currency: Mapped[str]
    status: Mapped[str]
    is_automatic: Mapped[bool]
    is_listed: Mapped[bool] = mapped_column(info=BOOKKEEPING)
    initiated_at: Mapped[datetime]
    arrival_date: Mapped[date | None]
    failure_code: Mapped[str | None]
    failure_message: Mapped[str | None]
    reconciliation: Mapped[str]
    difference: Mapped[Decimal | None]
    unknown_lines: Mapped[int]


class PayoutLine(Base):
    """One change of the balance of an organization's account, as the gateway lists it.

    `payout_id` is null until a payout contains it. `transaction_id`, `refund_id` and `dispute_id`
    are what our books have of it; `is_known` states that they have it with the same amount.
    """

    __tablename__ = "payout_lines"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "payout_id"], ["payouts.organization_id", "payouts.id"]
        ),
        ForeignKeyConstraint(
            ["organization_id", "transaction_id"],
            ["payment_transactions.organization_id", "payment_transactions.id"],
        ),
        ForeignKeyConstraint(
            ["organization_id", "refund_id"], ["refunds.organization_id", "refunds.id"]
        ),
        ForeignKeyConstraint(
            ["organization_id", "dispute_id"], ["disputes.organization_id", "disputes.id"]
        ),
        UniqueConstraint("payment_gateway", "gateway_line_id"),
        CheckConstraint("amount - gateway_fee - platform_fee = net", name="net"),
        Index("ix_payout_lines_payout_id", "payout_id"),
        Index("ix_payout_lines_organization_id_occurred_at", "organization_id", "occurred_at"),
        Index(
            "ix_payout_lines_unknown_gateway_account",
            "gateway_account",
            postgresql_where=text("NOT is_known"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organization_id: Mapped[int]
    payout_id: Mapped[int | None]
    payment_gateway: Mapped[str]
    gateway_account: Mapped[str]
    gateway_line_id: Mapped[str]
    gateway_source_id: Mapped[str | None]
    gateway_payment_id: Mapped[str | None]
    kind: Mapped[str]
    currency: Mapped[str]
    amount: Mapped[Decimal]
    gateway_fee: Mapped[Decimal]
    platform_fee: Mapped[Decimal]
    net: Mapped[Decimal]
    occurred_at: Mapped[datetime]
    transaction_id: Mapped[int | None]
    refund_id: Mapped[int | None]
    dispute_id: Mapped[int | None]
    is_known: Mapped[bool] = mapped_column(default=False)
