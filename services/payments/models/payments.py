"""Payments: the money for one voucher each."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Index,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.payments.gateways import BY_HAND, GatewayAccount
from services.payments.models.base import Base
from shared.db import BOOKKEEPING, SECRET, Entity, now


class Status(StrEnum):
    """The state of a payment."""

    PENDING = "pending"  # nothing was tried yet: the payer or staff must act
    PROCESSING = "processing"  # an attempt is under way
    REQUIRES_ACTION = "requires_action"  # the payer must confirm with the bank (3-D Secure)
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    QUARANTINED = "quarantined"  # the gateway contradicts our books: a person must look


UNFINISHED = frozenset({Status.PENDING, Status.PROCESSING, Status.REQUIRES_ACTION})
ENDED_UNPAID = frozenset({Status.FAILED, Status.CANCELLED})
PAID = frozenset({Status.SUCCEEDED, Status.PARTIALLY_REFUNDED, Status.REFUNDED})

_UNFINISHED = "status IN ({})".format(", ".join(f"'{status}'" for status in sorted(UNFINISHED)))


class Method(StrEnum):
    """How the buyer pays."""

    CREDIT_CARD = "credit_card"
    BANK_TRANSFER = "bank_transfer"
    CASH = "cash"
    OTHER = "other"


class PaymentTransaction(Entity, Base):
    """One payment of one voucher, from the intent to the last refund.

    `gateway_account` is the connected account that has `gateway_transaction_id`; null for the
    installation's own. `captured_amount` is what the payer paid, `refunded_amount` what was
    refunded, and `disputed_amount` what the payer's bank claims or has taken back. `platform_fee`
    is what the operator takes of it, on a connected account.
    """

    __tablename__ = "payment_transactions"
    __table_args__ = (
        UniqueConstraint("payment_gateway", "gateway_transaction_id"),
        UniqueConstraint("organization_id", "id"),
        CheckConstraint("amount >= 0", name="amount_not_negative"),
        CheckConstraint(
            "0 <= refunded_amount AND refunded_amount <= captured_amount",
            name="refunded_at_most_captured",
        ),
        Index(
            "uq_payment_transactions_unfinished_voucher_id",
            "voucher_id",
            unique=True,
            postgresql_where=text(_UNFINISHED),
        ),
        Index(
            "ix_payment_transactions_unfinished_checked_at",
            "checked_at",
            postgresql_where=text(_UNFINISHED),
        ),
        Index("ix_payment_transactions_voucher_id", "voucher_id"),
        Index("ix_payment_transactions_client_id_id", "client_id", "id"),
        Index(
            "ix_payment_transactions_organization_id_completed_at",
            "organization_id",
            "completed_at",
        ),
    )
    entity_type = "payment_transaction"

    organization_id: Mapped[int]
    voucher_id: Mapped[int]
    client_id: Mapped[int]
    amount: Mapped[Decimal]
    currency: Mapped[str]
    payment_method: Mapped[str]
    payment_gateway: Mapped[str]
    gateway_transaction_id: Mapped[str | None] = mapped_column(info=BOOKKEEPING)
    gateway_account: Mapped[str | None] = mapped_column(info=BOOKKEEPING)
    status: Mapped[str] = mapped_column(default=Status.PENDING)
    failure_code: Mapped[str | None]
    failure_message: Mapped[str | None]
    quarantine_reason: Mapped[str | None]
    captured_amount: Mapped[Decimal] = mapped_column(default=Decimal(0))
    refunded_amount: Mapped[Decimal] = mapped_column(default=Decimal(0))
    disputed_amount: Mapped[Decimal] = mapped_column(
        default=Decimal(0), server_default=text("0"), info=BOOKKEEPING
    )
    platform_fee: Mapped[Decimal] = mapped_column(
        default=Decimal(0), server_default=text("0"), info=BOOKKEEPING
    )
    description: Mapped[str]
    completed_at: Mapped[datetime | None]
    # Copied to the invoice, whose own event has them: here they would be published three times.
    buyer: Mapped[dict[str, Any]] = mapped_column(info=SECRET)
    seller: Mapped[dict[str, Any]] = mapped_column(info=SECRET)
    next_action: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), info=SECRET
    )
    gateway_response: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), info=SECRET
    )
    void_requested_at: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    checked_at: Mapped[datetime] = mapped_column(default=now, info=BOOKKEEPING)

    @property
    def is_unfinished(self) -> bool:
        """Whether it may still be paid."""
        return self.status in UNFINISHED

    @property
    def account(self) -> GatewayAccount:
        """The account at the gateway that the payment is charged on."""
        return GatewayAccount(self.gateway_account)

    @property
    def note(self) -> str | None:
        """What staff wrote about the money that was paid by hand."""
        response = self.gateway_response if self.payment_gateway == BY_HAND else None
        return response.get("note") if response else None


PaymentRow = Mapping[str, Any]
"""The columns of a payment by name, as they are when it is written without the ORM."""


def row_of(payment: PaymentTransaction) -> PaymentRow:
    """Return the present columns of a payment."""
    names = (attribute.key for attribute in inspect(PaymentTransaction).column_attrs)
    return {name: getattr(payment, name) for name in names}
