"""Transfers of sessions from a voucher to that of another client."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Identity, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base
from shared.db import now


class TransferEntry(Base):
    """One side of a transfer: `sessions` that the voucher received, negative if it gave them away.

    Each transfer has two rows whose sum is 0: that of the giver, and that of the receiver with the
    giver's as `opposite_id`. A return is a transfer in the other direction. Rows never change.
    """

    __tablename__ = "transfer_entries"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("opposite_id"),
        ForeignKeyConstraint(
            ["organization_id", "voucher_id"],
            ["vouchers.organization_id", "vouchers.id"],
            name="fk_transfer_entries_voucher",
        ),
        ForeignKeyConstraint(
            ["organization_id", "other_voucher_id"],
            ["vouchers.organization_id", "vouchers.id"],
            name="fk_transfer_entries_other_voucher",
        ),
        ForeignKeyConstraint(
            ["organization_id", "opposite_id"],
            ["transfer_entries.organization_id", "transfer_entries.id"],
            name="fk_transfer_entries_opposite",
        ),
        Index("ix_transfer_entries_voucher", "organization_id", "voucher_id", "id"),
        CheckConstraint("(opposite_id IS NULL) = (sessions < 0) AND sessions <> 0", "sessions"),
        CheckConstraint("voucher_id <> other_voucher_id", "vouchers"),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organization_id: Mapped[int]
    voucher_id: Mapped[int]
    client_id: Mapped[int | None]
    other_voucher_id: Mapped[int]
    opposite_id: Mapped[int | None]
    sessions: Mapped[int]
    reason: Mapped[str]
    made_by: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
