"""Second factors of users, and sign-ins that wait for one."""

from datetime import datetime, timedelta

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base
from services.identity.models.users import User
from shared.db import SECRET, now

CHALLENGE_LIFETIME = timedelta(minutes=5)


class SecondFactor(Base):
    """An authenticator app (TOTP) of one user. It counts after a code of it has confirmed it."""

    __tablename__ = "second_factors"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    secret: Mapped[str] = mapped_column(info=SECRET)
    """Encrypted (see security/second_factors.py)."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    confirmed_at: Mapped[datetime | None]
    last_step: Mapped[int | None]
    """The time step of the last code that was accepted."""


class RecoveryCode(Base):
    """A code that replaces one of the app once, stored as a keyed hash."""

    __tablename__ = "recovery_codes"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    code_hash: Mapped[bytes] = mapped_column(primary_key=True, info=SECRET)
    created_at: Mapped[datetime] = mapped_column(default=now)
    used_at: Mapped[datetime | None]


class SignInChallenge(Base):
    """A sign-in whose password was right and that waits for the second factor.

    Stored as the SHA-256 of its token: 256 random bits need no slow hash.
    """

    __tablename__ = "sign_in_challenges"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True, info=SECRET)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]

    def is_valid_for(self, user: User) -> bool:
        """Return whether it can be answered: not after a new password or a new role."""
        ends = [moment for moment in (user.known_since, user.tokens_not_before) if moment]
        is_open = self.used_at is None and self.expires_at > now()
        return is_open and all(self.created_at > moment for moment in ends)
