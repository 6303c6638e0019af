"""Counts of attempts."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base


class AttemptCount(Base):
    """The number of attempts within the window that ends at `ends_at`."""

    __tablename__ = "attempt_counts"

    key: Mapped[bytes] = mapped_column(primary_key=True)
    count: Mapped[int]
    ends_at: Mapped[datetime] = mapped_column(index=True)
