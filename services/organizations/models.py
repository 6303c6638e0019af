"""Organizations, and the foundings that are not completed."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.db import TYPES, Entity, metadata, now

DEFAULT_TIMEZONE = "UTC"
DEFAULT_CURRENCY = "USD"

FIRST_DELAY = timedelta(minutes=1)
LONGEST_DELAY = timedelta(days=1)


class Base(DeclarativeBase):
    """Root of this service's tables."""

    metadata = metadata()
    type_annotation_map = TYPES


class Organization(Entity, Base):
    """A therapy practice, a studio or a tutor. It is never deleted: its records stay."""

    __tablename__ = "organizations"
    entity_type = "organization"

    name: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    address: Mapped[str | None]
    phone: Mapped[str | None]
    email: Mapped[str | None]
    tax_id: Mapped[str | None]
    logo_url: Mapped[str | None]
    timezone: Mapped[str] = mapped_column(default=DEFAULT_TIMEZONE)
    currency: Mapped[str] = mapped_column(default=DEFAULT_CURRENCY)
    locale: Mapped[str | None]
    """The language of messages to users who have chosen none."""
    is_active: Mapped[bool] = mapped_column(default=True)

    @property
    def audited_organization_id(self) -> int:
        """An organization's own audit log shows its changes."""
        return self.id


class Founding(Base):
    """An organization whose owner identity is making: both exist afterwards, or neither.

    The id and the slug are already the organization's; `fields` are its other columns. The owner's
    password is never stored: a founding that was interrupted before identity had it is deleted.
    """

    __tablename__ = "foundings"

    organization_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    slug: Mapped[str] = mapped_column(unique=True)
    fields: Mapped[dict[str, Any]]
    started_at: Mapped[datetime] = mapped_column(default=now)
    user_id: Mapped[int | None]
    role: Mapped[str]
    failures: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many times the timer has failed to settle it since the last attempt of a client."""
    next_attempt_at: Mapped[datetime | None]

    def postpone(self) -> None:
        """Set the next attempt: after a minute, then after twice as long each time, up to a day."""
        self.failures += 1
        delay = FIRST_DELAY * 2 ** min(self.failures - 1, 16)
        self.next_attempt_at = now() + min(delay, LONGEST_DELAY)

    def resume(self) -> None:
        """Start anew, because a client has repeated the request that was interrupted.

        The timer must not settle this attempt while it runs; earlier failures do not count.
        """
        self.started_at = now()
        self.failures = 0
        self.next_attempt_at = None

    def organization(self) -> Organization:
        """Return the organization that this founding is about."""
        return Organization(id=self.organization_id, slug=self.slug, is_active=True, **self.fields)
