"""Clients without an account, for whom another client acts."""

from datetime import date, datetime
from typing import cast

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base
from shared.db import SECRET, Entity, now


class Dependant(Entity, Base):
    """A client who has no e-mail address, such as a child. The guardian is a client who has one.

    A dependant never signs in. The id is from the sequence of users, so it is that of no user, and
    vouchers name either as their client. The row is never deleted: a pseudonym replaces the
    personal data. The date of birth is in no event.
    """

    __tablename__ = "dependants"
    __table_args__ = (
        Index("ix_dependants_guardian", "guardian_id", "id"),
        CheckConstraint("NOT is_active OR deleted_at IS NULL", name="deleted_is_inactive"),
    )
    entity_type = "dependant"

    id: Mapped[int] = mapped_column(
        primary_key=True, server_default=text("nextval('users_id_seq')"), sort_order=-1
    )
    guardian_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    organization_id: Mapped[int | None]
    name: Mapped[str]
    date_of_birth: Mapped[date | None] = mapped_column(info=SECRET)
    is_active: Mapped[bool] = mapped_column(default=True)
    deleted_at: Mapped[datetime | None]

    # No column: only the event of leaving the organization needs it.
    _left_organization_id = cast("int | None", None)

    @property
    def audited_organization_id(self) -> int | None:
        """The organization, or the former one of a dependant who has just left it."""
        return self.organization_id or self._left_organization_id

    def move_to(self, organization_id: int | None) -> None:
        """Move the dependant to the guardian's new organization, or to none."""
        self._left_organization_id = self.organization_id
        self.organization_id = organization_id

    def pseudonymize(self) -> None:
        """Replace the personal data. The id and the history stay."""
        self.name = f"Deleted client {self.id}"
        self.date_of_birth = None
        self.is_active = False
        self.deleted_at = now()
