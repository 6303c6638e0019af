"""The bodies of requests and responses."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from services.identity.security.password_rule import MAX_LENGTH, MIN_LENGTH, new_password
from shared.actors import OWNER
from shared.fields import (
    BodyId,
    Day,
    Email,
    KnownTimeZone,
    Locale,
    Name,
    Phone,
    RequestBody,
    ServiceData,
    without_defaults,
)

Role = Literal["admin", "organization_owner", "therapist", "client", "staff"]
PermissionName = Literal[
    "manage_organization",
    "manage_users",
    "manage_voucher_types",
    "manage_vouchers",
    "manage_bookings",
    "manage_payments",
    "view_payments",
    "view_audit_logs",
    "all",
]
NewPassword = Annotated[
    str,
    # The form of RFC 8265 may be shorter.
    Field(max_length=1024),
    AfterValidator(new_password),
    Field(json_schema_extra={"minLength": MIN_LENGTH, "maxLength": MAX_LENGTH}),
]
"""A new password. Its length is checked here, its strength by `Passwords.hash_new`."""
PresentPassword = Annotated[str, Field(min_length=1, max_length=1024)]
"""A password to verify. Version 1 had other rules, so only its length has a bound."""
UserLocale = Annotated[
    Locale,
    Field(description="The language of messages; without one it is the organization's"),
]
LinkToken = Annotated[
    str,
    Field(min_length=1, max_length=256, description="What follows `#token=` in the link"),
]
RefreshTokenText = Annotated[str, Field(min_length=1, max_length=256)]


class _PartialUpdate(RequestBody):
    """Fields that are sent are changed; null empties an optional field."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        return self.model_dump(exclude_unset=True)


class Registration(RequestBody):
    """The registration of a client."""

    email: Email
    name: Name
    password: NewPassword
    phone: Phone | None = None
    locale: UserLocale | None = None
    organization_slug: Name | None = None


class MemberCreate(RequestBody):
    """A user that an owner or manager adds to the organization.

    Without a password the user is invited, and chooses it by a link in a message.
    """

    email: Email
    name: Name | None = Field(
        default=None,
        description="Without a name it is the address up to the @, until it is changed",
    )
    password: NewPassword | None = None
    role: Role
    phone: Phone | None = None
    locale: UserLocale | None = None


class UserCreate(MemberCreate):
    """A user that an administrator adds, to an organization or with a new one."""

    organization_id: BodyId | None = None
    organization_name: Name | None = None

    @model_validator(mode="after")
    def _at_most_one_organization(self) -> Self:
        if self.organization_id is not None and self.organization_name is not None:
            raise ValueError("give organization_id or organization_name, not both")
        if self.organization_name is not None and self.role != OWNER:
            raise ValueError("organization_name makes an owner: role must be organization_owner")
        if self.role == OWNER and self.organization_id is None and self.organization_name is None:
            raise ValueError("an owner needs organization_id or organization_name")
        return self


class MemberUpdate(_PartialUpdate):
    """The fields of a user that a manager may change."""

    email: Email = ""
    name: Name = ""
    phone: Phone | None = None
    locale: UserLocale | None = None
    role: Role = "client"
    is_active: bool = True


class UserUpdate(MemberUpdate):
    """The fields of a user that an administrator may change. A null organization removes the user
    from it."""

    organization_id: BodyId | None = None


class ProfileUpdate(_PartialUpdate):
    """The fields that users may change in their own account."""

    name: Name = ""
    phone: Phone | None = None
    locale: UserLocale | None = None


class AddressChange(RequestBody):
    """A new address of your own, confirmed by the present password."""

    email: Email
    current_password: PresentPassword


class LinkUse(RequestBody):
    """The token of a link."""

    token: LinkToken


class NewPasswordBody(RequestBody):
    """A password that an administrator sets."""

    password: NewPassword


class PasswordChange(RequestBody):
    """A new password of your own, confirmed by the present one."""

    current_password: PresentPassword
    new_password: NewPassword


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


class PermissionGrant(RequestBody):
    """A permission to grant."""

    permission: PermissionName


class TokensRead(BaseModel):
    """The tokens of a sign-in session. The access token expires after `expires_in` seconds."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    refresh_token: str


class UserRead(BaseModel):
    """A user as administrators and managers see one."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    name: str
    phone: str | None
    locale: str | None
    email_undeliverable_at: datetime | None = Field(
        description="When a mail server refused the address for good: it is wrong or was closed"
    )
    role: str
    organization_id: int | None
    is_organization_owner: bool
    is_active: bool
    approved_at: datetime | None
    approved_by: int | None
    last_login: datetime | None
    invited_at: datetime | None = Field(
        description="When the last invitation was sent; the user is inactive until it is accepted"
    )
    invitation_accepted_at: datetime | None
    email_confirmed_at: datetime | None
    awaits_confirmation: bool = Field(
        description="Whether the user registered and has not confirmed the address yet"
    )
    requested_organization: str | None = Field(
        description="The organization that is being created for this user, until it exists"
    )
    created_at: datetime
    updated_at: datetime


class RegistrationRead(BaseModel):
    """A registration that was received."""

    model_config = ConfigDict(from_attributes=True)

    id: int | None = Field(
        description="The id of the new user, if the installation reveals which addresses have"
        " accounts; otherwise null"
    )
    email: str
    name: str
    phone: str | None
    locale: str | None
    role: str
    organization_id: int | None
    is_active: bool
    awaits_confirmation: bool = Field(
        description="Whether a link was sent that the user must open before the first sign-in"
    )


class ProfileRead(UserRead):
    """Your own account, with the permissions that you were granted."""

    permissions: list[str]


class PermissionRead(BaseModel):
    """A permission, who granted it and when."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    user_id: int
    organization_id: int
    permission: str
    granted_by: int | None
    granted_at: datetime


class SessionRead(BaseModel):
    """One of your own live sessions."""

    id: UUID
    started_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    is_current: bool


class Message(BaseModel):
    """A sentence that states what was done."""

    message: str


class OrganizationFacts(ServiceData):
    """The fields that we read of an organization, as its service returns it."""

    id: BodyId
    version: int
    slug: str
    is_active: bool
    name: str | None = None
    logo_url: str | None = None
    email: str | None = None
    timezone: KnownTimeZone | None = None
    locale: str | None = None


class OwnerOrder(RequestBody):
    """The owner of an organization that is being created."""

    organization: OrganizationFacts
    email: Email
    name: Name
    password: NewPassword
    phone: Phone | None = None
    locale: UserLocale | None = None


class DependantCreate(RequestBody):
    """A client who has no e-mail address, such as a child."""

    name: Name
    date_of_birth: Day | None = None


class DependantUpdate(_PartialUpdate):
    """The fields of a dependant that can be changed."""

    name: Name = ""
    date_of_birth: Day | None = None


class DependantRead(BaseModel):
    """A dependant, whose guardian acts in their place. The id is that of a client."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    guardian_id: int
    organization_id: int | None
    name: str
    date_of_birth: date | None
    created_at: datetime
    updated_at: datetime


class UserCopy(BaseModel):
    """The fields of a user, or of a dependant with its guardian, that other services store."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    version: int
    name: str
    email: str | None
    role: str
    organization_id: int | None
    is_active: bool
    guardian_id: int | None = None
    locale: str | None


class Revocations(BaseModel):
    """The access tokens that are void before they expire."""

    revoked_sessions: list[str]
    users: dict[int, float]
    organizations: list[int]
    organization_versions: dict[int, int]
