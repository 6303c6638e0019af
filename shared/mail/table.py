"""The table of a service's outgoing mails."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Identity, Index, text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from shared.db import SECRET, now


class MailState(StrEnum):
    """What became of a message."""

    WAITING = "waiting"
    SENT = "sent"
    PARKED = "parked"
    """It was given up: an operator decides."""


STATES = f"state IN ({', '.join(repr(state.value) for state in MailState)})"
IS_WAITING = "state = 'waiting'"
IS_PARKED = "state = 'parked'"
IS_SETTLED = "settled_at IS NOT NULL AND recipient IS NOT NULL"


class OutgoingMailColumns:
    """Mixin for a service's model `OutgoingMail`: the columns and indexes of its table.

    The rows are no business data: they are not audited, and `shared.mail.queue` alone writes them.
    """

    __tablename__ = "outgoing_mails"

    @declared_attr.directive
    def __table_args__(cls) -> tuple[CheckConstraint | Index, ...]:  # noqa: N805
        return (
            CheckConstraint(STATES, name="state"),
            Index("ix_outgoing_mails_waiting", "id", postgresql_where=text(IS_WAITING)),
            Index(
                "ix_outgoing_mails_recipient", "recipient", "id", postgresql_where=text(IS_WAITING)
            ),
            Index("ix_outgoing_mails_parked", "id", postgresql_where=text(IS_PARKED)),
            Index("ix_outgoing_mails_settled", "settled_at", postgresql_where=text(IS_SETTLED)),
            Index("ix_outgoing_mails_user_id", "user_id"),
        )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    key: Mapped[UUID] = mapped_column(unique=True)
    """The local part of the Message-ID."""
    organization_id: Mapped[int | None]
    user_id: Mapped[int | None]
    recipient: Mapped[str | None]
    template: Mapped[str]
    content: Mapped[str | None] = mapped_column(info=SECRET)
    """Everything else of the message, encrypted. Erased as soon as the message was sent."""
    state: Mapped[str] = mapped_column(server_default=MailState.WAITING)
    attempts: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime] = mapped_column(default=now)
    give_up_at: Mapped[datetime]
    leased_until: Mapped[datetime | None]
    """Until when one worker alone may send it."""
    error: Mapped[str | None]
    """The last answer of the SMTP server, or why it was parked."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    settled_at: Mapped[datetime | None]
    """When it was sent or parked."""
