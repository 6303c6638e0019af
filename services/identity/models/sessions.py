"""Sign-in sessions and their refresh tokens."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    ForeignKey,
    Index,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base
from shared.db import SECRET, now

PASSWORD = "pwd"  # noqa: S105 - a value of RFC 8176
PASSWORD_AND_CODE = "pwd otp mfa"  # noqa: S105 - values of RFC 8176


class EndReason(StrEnum):
    """Why a sign-in session ended before its time."""

    SIGNED_OUT = "signed_out"
    SIGNED_OUT_EVERYWHERE = "signed_out_everywhere"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 - no password
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - no password
    DEACTIVATED = "deactivated"
    DELETED = "deleted"


class SignInSession(Base):
    """One signed-in client program. It ends when its refresh tokens are no longer exchanged."""

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
    """The network where it was opened, as `shared.networks` spells it."""

    authenticated_at: Mapped[datetime | None]
    """When the user proved again who they are; null until then."""
    amr: Mapped[str | None]
    """How the user signed in: values of RFC 8176 with spaces between; null for a password alone."""

    @property
    def last_authentication(self) -> datetime:
        """Return when the user last proved who they are in this session."""
        return self.authenticated_at or self.started_at

    @property
    def methods(self) -> list[str]:
        """Return how the user signed in, as the claim `amr` has it."""
        return (self.amr or PASSWORD).split()

    @property
    def is_live(self) -> bool:
        """Return whether the session has neither been ended nor expired."""
        return self.ended_at is None and self.expires_at > now()


class RefreshToken(Base):
    """A refresh token, stored as its SHA-256: 256 random bits need no slow hash.

    Used tokens stay stored, so that the reuse of one is recognized.
    """

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
    """The new tokens, encrypted (see service/refresh_answers.py). Erased after ten seconds."""
