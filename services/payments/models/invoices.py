"""Invoices, credit notes, their numbers, and changes of their sellers."""

from datetime import date, datetime
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

from services.payments.models.base import Base
from shared.db import Entity


class InvoiceKind(StrEnum):
    """What a numbered document is; each kind has a series of its own."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


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
    """The last number of a series; it is locked until the number's document is committed."""

    __tablename__ = "invoice_series"

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(primary_key=True)
    year: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_sequence: Mapped[int]


class SellerChanges(Base):
    """The changed fields of an organization, each with its present value.

    A payment stores the seller as at its purchase; documents issued later apply these changes.
    """

    __tablename__ = "seller_changes"

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]
    changes: Mapped[dict[str, Any]] = mapped_column(JSONB)
