"""Our copies of organizations."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base
from shared.db import now


class OrganizationCopy(Base):
    """What sign-in must know of an organization.

    Each field carries the version it is from, so that copies, events and look-ups come to the same
    whatever their order. A field is null until it is known.
    """

    __tablename__ = "organization_copies"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    slug: Mapped[str | None] = mapped_column(unique=True)
    slug_version: Mapped[int] = mapped_column(default=0)
    is_active: Mapped[bool | None]
    is_active_version: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[datetime] = mapped_column(default=now, index=True)

    @property
    def is_complete(self) -> bool:
        """Say whether this is a whole copy, not what a single event told."""
        return self.slug is not None and self.is_active is not None
