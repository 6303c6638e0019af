"""Users and their roles."""

from datetime import UTC, datetime
from math import ceil
from typing import Any, cast

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.models.base import Base, one_of
from shared.actors import ADMIN, OWNER
from shared.db import BOOKKEEPING, SECRET, Entity, now
from shared.text import fold

THERAPIST = "therapist"
STAFF = "staff"
CLIENT = "client"
ROLES = (ADMIN, OWNER, THERAPIST, CLIENT, STAFF)
GRANTABLE_ROLES = frozenset({THERAPIST, STAFF})
"""Roles whose users can be granted permissions. Owners and administrators have all by role."""

NO_PASSWORD = "!"  # noqa: S105 - no password has this hash, as in Unix


class User(Entity, Base):
    """An account. Its row is never deleted: a pseudonym replaces the personal data."""

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_email", func.lower(text("email")), unique=True),
        Index(
            "uq_users_email_folded",
            func.folded(text("email")),
            unique=True,
            postgresql_where=text("NOT shares_address"),
        ),
        Index(
            "ix_users_pending",
            "organization_id",
            "id",
            postgresql_where=text("approved_at IS NULL"),
        ),
        Index(
            "ix_users_tokens_not_before",
            "tokens_not_before",
            postgresql_where=text("tokens_not_before IS NOT NULL"),
        ),
        # The target of a foreign key of permissions, so that none outlives a membership.
        UniqueConstraint("organization_id", "id"),
        CheckConstraint(one_of("role", ROLES), name="role"),
        CheckConstraint(f"is_organization_owner = (role = '{OWNER}')", name="owner_by_role"),
        CheckConstraint("NOT is_active OR approved_at IS NOT NULL", name="active_when_approved"),
        CheckConstraint("NOT is_active OR deleted_at IS NULL", name="deleted_is_inactive"),
    )
    entity_type = "user"

    email: Mapped[str]
    name: Mapped[str]
    phone: Mapped[str | None]
    locale: Mapped[str | None]
    """The language of messages to the user; without one it is the organization's."""
    email_undeliverable_at: Mapped[datetime | None]
    """When a mail server refused the address for good. A new address removes it."""
    password_hash: Mapped[str] = mapped_column(info=SECRET)
    role: Mapped[str]
    organization_id: Mapped[int | None]
    is_organization_owner: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=False)
    approved_at: Mapped[datetime | None]
    approved_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    last_login: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    invited_at: Mapped[datetime | None]
    """When the last invitation was sent. An invited user is inactive until it is accepted."""
    invitation_accepted_at: Mapped[datetime | None]
    email_confirmed_at: Mapped[datetime | None]
    """When the user used a link that was sent to the present address."""
    awaits_confirmation: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether the user registered and has not confirmed the address yet: then nobody signs in."""
    requested_organization: Mapped[str | None]
    """The name of an organization that is being created, with this user as its owner."""
    shares_address: Mapped[bool] = mapped_column(
        default=False, server_default=text("false"), info=BOOKKEEPING
    )
    """Whether another user had this address first, in a spelling that used to count as another."""
    known_since: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    """When the last password was set. Earlier sign-ins make no device and no network known."""
    tokens_not_before: Mapped[datetime | None] = mapped_column(info=BOOKKEEPING)
    """Access tokens issued before this moment are void."""

    # No column: only the event of leaving the organization needs it.
    _left_organization_id = cast("int | None", None)

    @property
    def audited_organization_id(self) -> int | None:
        """The organization, or the former one of a user who has just left it."""
        return self.organization_id or self._left_organization_id

    @property
    def awaits_approval(self) -> bool:
        """Return whether the registration has not been approved yet."""
        return self.approved_at is None

    @property
    def is_invited(self) -> bool:
        """Return whether the user was invited and has not accepted yet."""
        return self.invited_at is not None and self.invitation_accepted_at is None

    @property
    def has_password(self) -> bool:
        """Return whether the user can sign in with a password at all."""
        return self.password_hash != NO_PASSWORD

    @property
    def is_active_owner(self) -> bool:
        """Return whether this user can act as an organization's owner."""
        return self.role == OWNER and self.is_active and self.organization_id is not None

    def set_role(self, role: str) -> None:
        """Change the role, and with it whether the user is an owner."""
        self.role = role
        self.is_organization_owner = role == OWNER

    def move_to(self, organization_id: int | None) -> None:
        """Move the user to another organization, or to none.

        An owner who moves becomes a client. So does everyone who leaves for none, except for
        administrators.
        """
        if self.organization_id is not None:
            self._left_organization_id = self.organization_id
            if self.role == OWNER or (organization_id is None and self.role != ADMIN):
                self.set_role(CLIENT)
        self.organization_id = organization_id
        if organization_id is not None:
            self.requested_organization = None

    def approve(self, approver_id: int | None) -> None:
        """Approve and activate the user."""
        self.approved_at = now()
        self.approved_by = approver_id
        self.is_active = True

    def invite(self, inviter_id: int | None) -> None:
        """Let a new user join by accepting an invitation: nobody needs to approve the user."""
        self.approved_at = self.invited_at = now()
        self.approved_by = inviter_id

    def accept_invitation(self, password_hash: str) -> None:
        """Set the first password and activate the user."""
        self.set_password(password_hash)
        self.invitation_accepted_at = now()
        self.is_active = True

    def invalidate_tokens(self) -> dict[str, Any]:
        """Make every access token issued so far void; return the details for the event.

        The moment is rounded up to milliseconds and `iat` of tokens is rounded down, so no earlier
        token passes.
        """
        moment = ceil(now().timestamp() * 1000) / 1000
        self.tokens_not_before = datetime.fromtimestamp(moment, UTC)
        return {"user_id": self.id, "tokens_not_before": moment}

    def set_password(self, password_hash: str) -> None:
        """Set a password. Devices and networks are unknown until the user signs in there again."""
        self.password_hash = password_hash
        self.known_since = now()

    def set_email(self, email: str) -> None:
        """Change the e-mail address. No other user may have it in any spelling."""
        if fold(email) != fold(self.email):
            self.shares_address = False
            self.email_confirmed_at = None
        self.email = email
        self.email_undeliverable_at = None

    def confirm_address(self, email: str) -> None:
        """Confirm the address, if it is the one to which a link was sent that the user has used."""
        if fold(email) == fold(self.email):
            self.email_confirmed_at = self.email_confirmed_at or now()
            self.email_undeliverable_at = None
            self.awaits_confirmation = False

    def pseudonymize(self) -> None:
        """Replace the personal data and free the e-mail address. The id and the history stay."""
        self.set_email(f"deleted-{self.id}@carnet.invalid")
        self.name = f"Deleted user {self.id}"
        self.phone = None
        self.locale = None
        self.password_hash = NO_PASSWORD
        self.requested_organization = None
        self.is_active = False
        self.deleted_at = now()
