"""Credentials, links, tokens and sign-in sessions."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import BaseModel, Field

from services.identity.schemas.common import NewPassword, PresentPassword, UserLocale
from shared.fields import Email, Name, RequestBody

LinkToken = Annotated[
    str,
    Field(min_length=1, max_length=256, description="What follows `#token=` in the link"),
]
RefreshTokenText = Annotated[str, Field(min_length=1, max_length=256)]


class TypedAddress(RequestBody):
    """An e-mail address as its user types it."""

    # A name and not an address: version 1 accepted addresses that would be refused today.
    email: Name

    @property
    def spellings(self) -> tuple[str, ...]:
        """The address as it was typed, and as a registration would have stored it.

        One address has several spellings (a letter and its accent as one character or two,
        Punycode).
        """
        try:
            stored_email = validate_email(self.email, check_deliverability=False).normalized
        except EmailNotValidError:
            return (self.email,)
        return (self.email,) if stored_email == self.email else (self.email, stored_email)


class Credentials(TypedAddress):
    """An e-mail address and a password."""

    password: PresentPassword


class AddressChange(RequestBody):
    """A new address of your own, confirmed by the present password."""

    email: Email
    current_password: PresentPassword


class PasswordChange(RequestBody):
    """A new password of your own, confirmed by the present one."""

    current_password: PresentPassword
    new_password: NewPassword


class LinkUse(RequestBody):
    """The token of a link."""

    token: LinkToken


class LinkPassword(RequestBody):
    """The token of a link, and a new password."""

    token: LinkToken
    password: NewPassword


class InvitationAcceptance(LinkPassword):
    """The token of an invitation, the first password, and how the user wants to be addressed."""

    name: Name | None = None
    locale: UserLocale | None = None


class RefreshRequest(RequestBody):
    """A refresh token, which can be exchanged once."""

    refresh_token: RefreshTokenText


class LogoutRequest(RequestBody):
    """The session to end: that of the refresh token, or without one that of the access token."""

    refresh_token: RefreshTokenText | None = None


class TokensRead(BaseModel):
    """The tokens of a sign-in session. The access token expires after `expires_in` seconds."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    refresh_token: str


class SessionRead(BaseModel):
    """One of your own live sessions."""

    id: UUID
    started_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    is_current: bool


class Revocations(BaseModel):
    """The access tokens that are void before they expire."""

    revoked_sessions: list[str]
    users: dict[int, float]
    organizations: list[int]
    organization_versions: dict[int, int]
