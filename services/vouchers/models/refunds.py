"""Refund quotes of vouchers, and disputes about their payments."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Identity, Index, false
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from shared.db import now


class QuoteStatus(StrEnum):
    """The states of a quote: it is `taken` from the moment its sessions are withheld."""

    OPEN = "open"
    TAKEN = "taken"
    REFUNDED = "refunded"
    FAILED = "failed"


class RefundQuote(Base):
    """What a client would be refunded for unused sessions.

    The quote is valid for `voucher_version` of the voucher and until `valid_until`.
    """

    __tablename__ = "refund_quotes"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "voucher_id"], ["vouchers.organization_id", "vouchers.id"]
        ),
        Index("ix_refund_quotes_voucher", "organization_id", "voucher_id", "id"),
        CheckConstraint("status IN ('open', 'taken', 'refunded', 'failed')", "status"),
        CheckConstraint("sessions >= 1", "sessions"),
        CheckConstraint("amount > 0", "amount"),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organization_id: Mapped[int]
    voucher_id: Mapped[int]
    client_id: Mapped[int | None]
    transaction_id: Mapped[int]
    voucher_version: Mapped[int]
    unused_sessions: Mapped[int]
    sessions: Mapped[int]
    amount: Mapped[Decimal]
    currency: Mapped[str]
    rule: Mapped[str]
    status: Mapped[str] = mapped_column(default=QuoteStatus.OPEN)
    reason: Mapped[str | None]
    quoted_by: Mapped[int]
    taken_by: Mapped[int | None]
    valid_until: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=now)


class VoucherDispute(Base):
    """A dispute about a voucher's payment; the id is that of payments.

    Its events may arrive in any order: once closed, it stays closed. A voucher whose dispute was
    lost never becomes active again.
    """

    __tablename__ = "voucher_disputes"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "voucher_id"], ["vouchers.organization_id", "vouchers.id"]
        ),
        Index("ix_voucher_disputes_voucher", "organization_id", "voucher_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    organization_id: Mapped[int]
    voucher_id: Mapped[int]
    is_open: Mapped[bool]
    is_lost: Mapped[bool] = mapped_column(default=False, server_default=false())
