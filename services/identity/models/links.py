"""Links in messages that prove that somebody reads an address."""

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base, one_of
from shared.db import SECRET, now


class LinkPurpose(StrEnum):
    """What a link allows its holder to do."""

    PASSWORD_RESET = "password_reset"  # noqa: S105 - no password
    ADDRESS_CONFIRMATION = "address_confirmation"
    INVITATION = "invitation"

    @property
    def lifetime(self) -> timedelta:
        """Return how long a new link is valid."""
        return timedelta(minutes=30) if self is LinkPurpose.PASSWORD_RESET else timedelta(days=7)


class LinkEnd(StrEnum):
    """Why a link cannot be used any more, although it may not have expired."""

    USED = "used"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"


class AccountLink(Base):
    """A link to one user, stored as the SHA-256 of its token: 256 random bits need no slow hash.

    Links that ended stay stored for a while, so that a late visitor gets the reason.
    """

    __tablename__ = "account_links"
    __table_args__ = (
        Index(
            "uq_account_links_open",
            "user_id",
            "purpose",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        CheckConstraint(one_of("purpose", tuple(LinkPurpose)), name="purpose"),
    )

    token_hash: Mapped[bytes] = mapped_column(primary_key=True, info=SECRET)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    purpose: Mapped[str]
    email: Mapped[str]
    """The address to which it was sent: whoever has the link reads that address."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str | None]

    @property
    def has_expired(self) -> bool:
        """Return whether its time is over."""
        return self.expires_at <= now()

    def end(self, reason: LinkEnd) -> None:
        """End the link."""
        self.ended_at = now()
        self.end_reason = reason
