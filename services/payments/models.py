"""Payment transactions, refunds, invoices and received webhooks."""

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Identity,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.payments.gateways.manual import BY_HAND
from services.payments.gateways.protocol import Order, RefundOrder
from services.payments.states import UNFINISHED, RepaymentStatus, Status
from shared.db import BOOKKEEPING, SECRET, TYPES, Entity, metadata, now

_UNFINISHED = "status IN ({})".format(", ".join(f"'{status}'" for status in sorted(UNFINISHED)))


class Method(StrEnum):
    """How the buyer pays."""

    CREDIT_CARD = "credit_card"
    BANK_TRANSFER = "bank_transfer"
    CASH = "cash"
    OTHER = "other"


class InvoiceKind(StrEnum):
    """What a numbered document is; each kind has a series of its own."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


class RefundStatus(StrEnum):
    """Where a refund stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RefundSource(StrEnum):
    """Who asked for a refund."""

    STAFF = "staff"
    GATEWAY = "gateway"  # at the gateway's own console
    CANCELLATION = "cancellation"  # the voucher was cancelled


class DisputeStatus(StrEnum):
    """Where a dispute stands: the bank has decided for us (`won`) or for the payer (`lost`)."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


class WebhookOutcome(StrEnum):
    """What became of a received webhook."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"  # repeated, late, or about something that is not ours
    GIVEN_UP = "given_up"


class Base(DeclarativeBase):
    """Root of this service's tables."""

    metadata = metadata()
    type_annotation_map = TYPES


class PaymentTransaction(Entity, Base):
    """One payment of one voucher, from the intent to the last refund.

    `captured_amount` is what the payer gave, `refunded_amount` what went back to them, and
    `disputed_amount` what the payer's bank wants back or has taken back.
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
    status: Mapped[str] = mapped_column(default=Status.PENDING)
    failure_code: Mapped[str | None]
    failure_message: Mapped[str | None]
    quarantine_reason: Mapped[str | None]
    captured_amount: Mapped[Decimal] = mapped_column(default=Decimal(0))
    refunded_amount: Mapped[Decimal] = mapped_column(default=Decimal(0))
    disputed_amount: Mapped[Decimal] = mapped_column(
        default=Decimal(0), server_default=text("0"), info=BOOKKEEPING
    )
    description: Mapped[str]
    completed_at: Mapped[datetime | None]
    # Copied to the invoice, whose own event tells of them; here they would be told three times.
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
        """Say whether it may still be paid."""
        return self.status in UNFINISHED

    @property
    def note(self) -> str | None:
        """What staff noted of the money that came by hand."""
        told = self.gateway_response if self.payment_gateway == BY_HAND else None
        return told.get("note") if told else None

    def order(self) -> Order:
        """Return what the gateway is told."""
        return Order(
            transaction_id=self.id,
            voucher_id=self.voucher_id,
            organization_id=self.organization_id,
            amount=self.amount,
            currency=self.currency,
            description=self.description,
        )


class Refund(Entity, Base):
    """Money on its way back; while it is pending its amount is taken from what may be refunded."""

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

    def order(self) -> RefundOrder:
        """Return what the gateway is told."""
        return RefundOrder(refund_id=self.id, amount=self.amount, currency=self.currency)


class Repayment(Entity, Base):
    """Money that a person must give back, because no gateway does.

    `refund_id` is the refund that failed or came back; `amount` is what is still due, or was.
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


class Dispute(Entity, Base):
    """A chargeback: the payer's bank wants money back that was paid."""

    __tablename__ = "disputes"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "transaction_id"],
            ["payment_transactions.organization_id", "payment_transactions.id"],
        ),
        UniqueConstraint("payment_gateway", "gateway_dispute_id"),
        CheckConstraint("status IN ('open', 'won', 'lost')", name="status_known"),
        CheckConstraint("(status = 'open') = (closed_at IS NULL)", name="closed_at"),
        Index("ix_disputes_transaction_id", "transaction_id"),
        Index("ix_disputes_organization_id_id", "organization_id", "id"),
    )
    entity_type = "dispute"

    organization_id: Mapped[int]
    transaction_id: Mapped[int]
    client_id: Mapped[int]
    amount: Mapped[Decimal]
    currency: Mapped[str]
    reason: Mapped[str | None]
    status: Mapped[str]
    payment_gateway: Mapped[str]
    gateway_dispute_id: Mapped[str] = mapped_column(info=BOOKKEEPING)
    gateway_response: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), info=SECRET
    )
    closed_at: Mapped[datetime | None]


class Invoice(Entity, Base):
    """A numbered document as it was issued: the service's role may not change or delete it.

    A credit note is one of kind `credit_note`: its amounts are what the buyer gets back.
    """

    __tablename__ = "invoices"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "transaction_id"],
            ["payment_transactions.organization_id", "payment_transactions.id"],
        ),
        ForeignKeyConstraint(
            ["organization_id", "refund_id"], ["refunds.organization_id", "refunds.id"]
        ),
        UniqueConstraint("organization_id", "number"),
        UniqueConstraint("organization_id", "kind", "year", "sequence"),
        UniqueConstraint("refund_id"),
        CheckConstraint("(kind = 'invoice') = (refund_id IS NULL)", name="credit_note_has_refund"),
        Index(
            "uq_invoices_transaction_id",
            "transaction_id",
            unique=True,
            postgresql_where=text("kind = 'invoice'"),
        ),
        Index("ix_invoices_transaction_id", "transaction_id"),
        Index("ix_invoices_organization_id_id", "organization_id", "id"),
        Index("ix_invoices_organization_id_issue_date", "organization_id", "issue_date"),
    )
    entity_type = "invoice"

    organization_id: Mapped[int]
    client_id: Mapped[int]
    transaction_id: Mapped[int]
    refund_id: Mapped[int | None]
    kind: Mapped[str]
    number: Mapped[str]
    year: Mapped[int]
    sequence: Mapped[int]
    issued_at: Mapped[datetime]
    issue_date: Mapped[date]
    corrects_number: Mapped[str | None]
    currency: Mapped[str]
    total: Mapped[Decimal]
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    payment_method: Mapped[str]
    seller: Mapped[dict[str, Any]]
    buyer: Mapped[dict[str, Any]]


class InvoiceSeries(Base):
    """The last number given in a series; its row is locked until the number's document is safe."""

    __tablename__ = "invoice_series"

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(primary_key=True)
    year: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_sequence: Mapped[int]


class SellerChanges(Base):
    """What changed of an organization since we listen, each field as it is now.

    A payment keeps the seller as at its purchase; what is issued later names it with these.
    """

    __tablename__ = "seller_changes"

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]
    changes: Mapped[dict[str, Any]] = mapped_column(JSONB)


class WebhookEvent(Base):
    """A webhook exactly as it came; `next_attempt_at` is null once it was dealt with.

    Its body is forgotten in time; the rest stays, so that an event is never taken twice.
    """

    __tablename__ = "webhook_events"
    __table_args__ = (
        UniqueConstraint("gateway", "event_id"),
        Index(
            "ix_webhook_events_waiting_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("next_attempt_at IS NOT NULL"),
        ),
        Index(
            "ix_webhook_events_kept_received_at",
            "received_at",
            postgresql_where=text("body IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    gateway: Mapped[str]
    event_id: Mapped[str]
    type: Mapped[str]
    body: Mapped[bytes | None]
    signed_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(default=now)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(default=now)
    outcome: Mapped[str | None]
