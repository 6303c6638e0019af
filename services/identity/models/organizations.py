"""Our copies of organizations."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base
from shared.db import now


class OrganizationCopy(Base):
    """The fields of an organization that sign-in and messages need.

    Each field is stored with the version it is from, so that events and requests lead to the same
    row in any order. A field is null until its value is known.
    """

    __tablename__ = "organization_copies"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    slug: Mapped[str | None] = mapped_column(unique=True)
    slug_version: Mapped[int] = mapped_column(default=0)
    is_active: Mapped[bool | None]
    is_active_version: Mapped[int] = mapped_column(default=0)
    name: Mapped[str | None]
    name_version: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    logo_url: Mapped[str | None]
    logo_url_version: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    email: Mapped[str | None]
    email_version: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    timezone: Mapped[str | None]
    timezone_version: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    locale: Mapped[str | None]
    locale_version: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    updated_at: Mapped[datetime] = mapped_column(default=now, index=True)

    @property
    def is_complete(self) -> bool:
        """Return whether what sign-in needs is known; a single event may contain only some."""
        return self.slug is not None and self.is_active is not None

    @property
    def has_letterhead(self) -> bool:
        """Return whether the fields for messages are known; an older copy has none of them."""
        return self.name is not None
