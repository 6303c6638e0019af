"""Copies of the columns of other services' rows that this service needs; events keep them current.

The table names end in `_copies`, so that a report over all schemas uses the owners' tables instead.
"""

from enum import StrEnum

from sqlalchemy.orm import Mapped, mapped_column

from services.vouchers.models.base import Base


class AccountMode(StrEnum):
    """Whose account at a payment gateway receives card payments, as payments is configured."""

    INSTALLATION = "installation"  # one account for all organizations
    ORGANIZATION = "organization"  # a connected account of each organization


class OrganizationCopy(Base):
    """An organization as the organizations service published it."""

    __tablename__ = "organization_copies"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]
    name: Mapped[str]
    slug: Mapped[str]
    address: Mapped[str | None]
    phone: Mapped[str | None]
    email: Mapped[str | None]
    tax_id: Mapped[str | None]
    logo_url: Mapped[str | None]
    timezone: Mapped[str]
    currency: Mapped[str]
    is_active: Mapped[bool]


class ClientCopy(Base):
    """A user as identity published it; without name and address once deleted there.

    A dependant, who has no account, is a client without an address and with a guardian.
    """

    __tablename__ = "client_copies"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]
    name: Mapped[str | None]
    email: Mapped[str | None]
    role: Mapped[str]
    organization_id: Mapped[int | None] = mapped_column(index=True)
    is_active: Mapped[bool]
    guardian_id: Mapped[int | None]


class PaymentAccountCopy(Base):
    """An account of an organization at a payment gateway, as payments published it.

    An organization that connected another account has a row for each of them.
    """

    __tablename__ = "payment_account_copies"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]
    organization_id: Mapped[int] = mapped_column(index=True)
    status: Mapped[str]
    charges_enabled: Mapped[bool]
    live: Mapped[bool]
