"""The keys that sign access tokens."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base
from shared.db import SECRET, now


class SigningKey(Base):
    """A key that signs access tokens from `signs_from` on, until a newer one does."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    public_key: Mapped[dict[str, Any]]
    private_key: Mapped[str | None] = mapped_column(info=SECRET)
    """Encrypted (see security/key_encryption.py). Erased when the key has retired."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    signs_from: Mapped[datetime]
    published_until: Mapped[datetime | None]
    """When its last token has expired; null while there is no newer key."""
