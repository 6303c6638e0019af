"""Users, their profile and their permissions."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.identity.schemas.common import NewPassword, PartialUpdate, UserLocale
from shared.actors import OWNER
from shared.fields import BodyId, Email, KnownTimeZone, Name, Phone, RequestBody, ServiceData

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


class MemberUpdate(PartialUpdate):
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


class ProfileUpdate(PartialUpdate):
    """The fields that users may change in their own account."""

    name: Name = ""
    phone: Phone | None = None
    locale: UserLocale | None = None


class NewPasswordBody(RequestBody):
    """A password that an administrator sets."""

    password: NewPassword


class PermissionGrant(RequestBody):
    """A permission to grant."""

    permission: PermissionName


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
    locale: str | None = None
