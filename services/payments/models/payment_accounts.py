"""Accounts of organizations at payment gateways."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.payments.models.base import Base
from shared.db import BOOKKEEPING, Entity


class AccountStatus(StrEnum):
    """The state of an organization's account at a gateway."""

    CONNECTING = "connecting"  # the gateway is asked to create it
    CONNECTED = "connected"  # it exists; `charges_enabled` states whether it may charge
    DISCONNECTED = "disconnected"  # by its owner, by staff, or closed by the gateway


class PaymentAccount(Entity, Base):
    """An organization's own account at a gateway, connected to the installation's account.

    Only its id is stored, no key. `requirements` lists what the gateway still wants to know of the
    organization, in the gateway's words. An account that was disconnected stays: earlier payments
    name it. Until `caught_up_at` every event that the gateway lists was read.
    """

    __tablename__ = "payment_accounts"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("payment_gateway", "gateway_account"),
        CheckConstraint(
            "status IN ('connecting', 'connected', 'disconnected')", name="status_known"
        ),
        CheckConstraint(
            "status <> 'connected' OR gateway_account IS NOT NULL", name="connected_has_account"
        ),
        CheckConstraint(
            "(status = 'disconnected') = (disconnected_at IS NOT NULL)", name="disconnected_at"
        ),
        Index(
            "uq_payment_accounts_organization_id_payment_gateway",
            "organization_id",
            "payment_gateway",
            unique=True,
            postgresql_where=text("status <> 'disconnected'"),
        ),
        Index(
            "ix_payment_accounts_catch_up_attempted_at",
            "catch_up_attempted_at",
            postgresql_where=text("gateway_account IS NOT NULL"),
        ),
        Index(
            "ix_payment_accounts_refresh_at",
            "refresh_at",
            postgresql_where=text("status <> 'disconnected'"),
        ),
    )
    entity_type = "payment_account"

    organization_id: Mapped[int]
    payment_gateway: Mapped[str]
    gateway_account: Mapped[str | None]
    status: Mapped[str] = mapped_column(default=AccountStatus.CONNECTING)
    live: Mapped[bool]
    country: Mapped[str | None]
    currency: Mapped[str | None]
    charges_enabled: Mapped[bool] = mapped_column(default=False)
    payouts_enabled: Mapped[bool] = mapped_column(default=False)
    requirements: Mapped[list[str]] = mapped_column(JSONB)
    disabled_reason: Mapped[str | None]
    disconnected_at: Mapped[datetime | None]
    caught_up_at: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    refresh_at: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    """When its state is to be read at the gateway again; null is at once."""
    catch_up_attempted_at: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    balance_checked_at: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    balance_read_until: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
