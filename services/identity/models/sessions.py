"""Sign-in sessions and their refresh tokens."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ForeignKey,
    Index,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base
from shared.db import SECRET, now


class SignInSession(Base):
    """One signed-in client program; it lives as long as its refresh tokens are exchanged."""

    __tablename__ = "sign_in_sessions"
    __table_args__ = (Index("ix_sign_in_sessions_user_id_network", "user_id", "network"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    started_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None] = mapped_column(index=True)
    end_reason: Mapped[str | None]
    ip_address: Mapped[str | None]
    user_agent: Mapped[str | None]
    network: Mapped[str]
    """Where it was opened, as throttling sees addresses."""

    @property
    def is_live(self) -> bool:
        """Say whether the session has neither been ended nor run out."""
        return self.ended_at is None and self.expires_at > now()


class RefreshToken(Base):
    """The SHA-256 of a refresh token: 256 random bits need no slow hash. Used ones are kept, so
    that one presented again is known for what it is."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        Index(
            "ix_refresh_tokens_answered",
            "used_at",
            postgresql_where=text("answer IS NOT NULL"),
        ),
    )

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(
        ForeignKey("sign_in_sessions.id", ondelete="CASCADE"), index=True
    )
    issued_at: Mapped[datetime] = mapped_column(default=now)
    used_at: Mapped[datetime | None]
    answer: Mapped[str | None] = mapped_column(info=SECRET)
    """The tokens it was exchanged for, encrypted (see refresh_answers.py); erased after use."""
