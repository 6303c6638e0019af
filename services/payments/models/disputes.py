"""Disputes."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.payments.models.base import Base
from shared.db import BOOKKEEPING, SECRET, Entity


class DisputeStatus(StrEnum):
    """The state of a dispute: the bank has decided for us (`won`) or for the payer (`lost`)."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


class Dispute(Entity, Base):
    """A chargeback: the payer's bank wants money back that was paid."""

    __tablename__ = "disputes"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "transaction_id"],
            ["payment_transactions.organization_id", "payment_transactions.id"],
        ),
        UniqueConstraint("organization_id", "id"),
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
