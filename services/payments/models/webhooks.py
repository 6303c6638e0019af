"""Received webhooks."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    Identity,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.payments.models.base import Base
from shared.db import now


class WebhookOutcome(StrEnum):
    """The outcome of a received webhook."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"  # repeated, late, or about no payment of ours
    GIVEN_UP = "given_up"


class WebhookEvent(Base):
    """A webhook exactly as it was received; `next_attempt_at` is null once it is finished.

    `account` is the connected account that it is about, null for the installation's own.
    Its body is deleted in time; the rest stays, so that an event is never applied twice.
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
    account: Mapped[str | None]
    type: Mapped[str]
    body: Mapped[bytes | None]
    signed_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(default=now)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(default=now)
    outcome: Mapped[str | None]
