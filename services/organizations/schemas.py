"""The bodies of requests and responses, and what identity returns."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

from services.organizations.models import DEFAULT_CURRENCY, DEFAULT_TIMEZONE
from shared.fields import (
    Currency,
    Email,
    Lines,
    Locale,
    Name,
    Phone,
    RequestBody,
    ServiceData,
    TimeZone,
    without_defaults,
)
from shared.public_addresses import check_url


def _public(url: str) -> str:
    """Accept only http and https at public hosts.

    `javascript:` would run in a page, and payments fetches the logo from inside our network.
    """
    check_url(url)
    return url


LogoUrl = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=2000),
    AfterValidator(_public),
    Field(
        json_schema_extra={
            "format": "uri",
            "pattern": r"^https?://(\[[0-9A-Fa-f:.]+\]|[^/?#@:\\\s]+)(:(80|443))?([/?#]|$)",
        }
    ),
]
"""The address of a picture on the public internet. It is not fetched when it is stored."""


class _Settings(RequestBody):
    address: Lines | None = None
    phone: Phone | None = None
    email: Email | None = None
    tax_id: Name | None = None
    logo_url: LogoUrl | None = None
    locale: Locale | None = Field(
        default=None, description="The language of messages to users who have chosen none"
    )


class OrganizationCreate(_Settings):
    """A new organization with its owner."""

    name: Name
    timezone: TimeZone = DEFAULT_TIMEZONE
    currency: Currency = DEFAULT_CURRENCY
    owner_email: Email
    owner_name: Name
    owner_password: str = Field(min_length=1, max_length=128)

    def organization(self) -> dict[str, Any]:
        """Return the organization's own columns."""
        return self.model_dump(exclude={"owner_email", "owner_name", "owner_password"})


class OrganizationUpdate(_Settings):
    """The fields that are sent are changed; null empties an optional field."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    name: Name = ""
    timezone: TimeZone = DEFAULT_TIMEZONE
    currency: Currency = DEFAULT_CURRENCY

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        return self.model_dump(exclude_unset=True)


class OrganizationAdminUpdate(OrganizationUpdate):
    """What an administrator of the system may change: also whether it is active."""

    is_active: bool = True


class OrganizationRead(BaseModel):
    """An organization as its members see it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    slug: str
    address: str | None
    phone: str | None
    email: str | None
    tax_id: str | None
    logo_url: str | None
    timezone: str
    currency: str
    locale: str | None
    is_active: bool
    created_at: datetime
    updated_at: datetime


class OwnerRead(ServiceData):
    """The owner as identity returned it: the part of a user that is shown here."""

    id: int
    email: str
    name: str
    role: str
    organization_id: int
    is_active: bool


class OrganizationFounded(OrganizationRead):
    """A new organization, and its owner."""

    owner: OwnerRead


class OrganizationCopy(BaseModel):
    """What other services store of an organization."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    version: int
    name: str
    slug: str
    address: str | None
    phone: str | None
    email: str | None
    tax_id: str | None
    logo_url: str | None
    timezone: str
    currency: str
    locale: str | None
    is_active: bool
