"""Cards that clients have stored with organizations."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.payments.gateways import GatewayAccount
from services.payments.models.base import Base
from shared.db import BOOKKEEPING, SECRET, Entity, now


class CardStatus(StrEnum):
    """The state of a saved card."""

    PENDING = "pending"  # the gateway is asked to store it
    REQUIRES_ACTION = "requires_action"  # the client must confirm with the bank (3-D Secure)
    ACTIVE = "active"
    FAILED = "failed"
    REMOVED = "removed"


class SavedCard(Entity, Base):
    """A client's card that a gateway stores for later payments to one organization.

    `mandate_text` is what the client agreed to, as it was displayed, and `mandate_accepted_at` the
    time. `gateway_account` is the connected account that stores the card, null for the
    installation's own. `detached_at` is set once the gateway has deleted a removed card.
    """

    __tablename__ = "saved_cards"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("payment_gateway", "gateway_setup"),
        CheckConstraint(
            "status IN ('pending', 'requires_action', 'active', 'failed', 'removed')",
            name="status_known",
        ),
        CheckConstraint(
            "status <> 'active' OR gateway_method IS NOT NULL", name="active_has_method"
        ),
        CheckConstraint("(status = 'removed') = (removed_at IS NOT NULL)", name="removed_at"),
        Index("ix_saved_cards_client_id_id", "client_id", "id"),
        Index("ix_saved_cards_organization_id_id", "organization_id", "id"),
        Index(
            "ix_saved_cards_unfinished_checked_at",
            "checked_at",
            postgresql_where=text(
                "status IN ('pending', 'requires_action')"
                " OR status = 'removed' AND detached_at IS NULL"
            ),
        ),
    )
    entity_type = "saved_card"

    organization_id: Mapped[int]
    client_id: Mapped[int]
    payment_gateway: Mapped[str]
    gateway_account: Mapped[str | None] = mapped_column(info=BOOKKEEPING)
    gateway_customer: Mapped[str | None] = mapped_column(info=BOOKKEEPING)
    gateway_setup: Mapped[str | None] = mapped_column(info=BOOKKEEPING)
    gateway_method: Mapped[str | None] = mapped_column(info=BOOKKEEPING)
    status: Mapped[str] = mapped_column(default=CardStatus.PENDING)
    brand: Mapped[str | None]
    # Digits and date identify a person's card: they stay here, where they can be deleted.
    last4: Mapped[str | None] = mapped_column(info=SECRET)
    exp_month: Mapped[int | None] = mapped_column(info=SECRET)
    exp_year: Mapped[int | None] = mapped_column(info=SECRET)
    mandate_text: Mapped[str]
    mandate_accepted_at: Mapped[datetime]
    failure_code: Mapped[str | None]
    failure_message: Mapped[str | None]
    next_action: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), info=SECRET
    )
    removed_at: Mapped[datetime | None]
    detached_at: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    checked_at: Mapped[datetime] = mapped_column(default=now, info=BOOKKEEPING)

    @property
    def account(self) -> GatewayAccount:
        """The account at the gateway that stores the card."""
        return GatewayAccount(self.gateway_account)

    @property
    def is_unfinished(self) -> bool:
        """Whether it may still become active."""
        return self.status in (CardStatus.PENDING, CardStatus.REQUIRES_ACTION)
