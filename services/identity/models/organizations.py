"""Our copies of organizations."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base
from shared.db import now


class OrganizationCopy(Base):
    """The fields of an organization that sign-in needs.

    Each field is stored with the version it is from, so that events and requests lead to the same
    row in any order. A field is null until its value is known.
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
        """Return whether every field is known; a single event may contain only some."""
        return self.slug is not None and self.is_active is not None
