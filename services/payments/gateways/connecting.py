"""The interface of a payment gateway that connects accounts of organizations."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from services.payments.gateways.protocol import AccountReport, OnlineGateway


@dataclass(frozen=True, slots=True)
class AccountOrder:
    """The account that the gateway is to create.

    `reference` is our name of the account, which no other account has; `requested_at` is when it
    was requested first. `country` is an ISO 3166 code, None for the gateway's own choice.
    """

    reference: str
    organization_id: int
    requested_at: datetime
    country: str | None
    email: str | None


@dataclass(frozen=True, slots=True)
class AccountLink:
    """An address at the gateway where the owner of an account enters what the gateway wants.

    It gives access to the account: it is shown to the user who requested it and never stored.
    """

    url: str
    expires_at: datetime


class CannotDisconnect(Exception):
    """The installation cannot disconnect accounts by itself; the message states who can."""


@runtime_checkable
class ConnectingGateway(OnlineGateway, Protocol):
    """A gateway at which each organization can have an account of its own.

    Only the ids of accounts are stored here, never keys.
    """

    def require_connections(self) -> None:
        """Raise ValueError if a setting is missing that connected accounts need."""
        ...

    async def create_account(self, order: AccountOrder) -> AccountReport:
        """Create an account, or return the one that was created for this reference before.

        Raises GatewayUnavailable and GatewayRefused.
        """
        ...

    async def link_account(self, account: str, return_url: str, refresh_url: str) -> AccountLink:
        """Return a new link to the onboarding of an account.

        The gateway sends the owner to `return_url` at the end, and to `refresh_url` if the link is
        not valid any more. Raises AccountNotAccessible, GatewayUnavailable and GatewayRefused.
        """
        ...

    async def read_account(self, account: str) -> AccountReport:
        """Return the present state of an account.

        Raises AccountNotAccessible and GatewayUnavailable.
        """
        ...

    async def disconnect_account(self, account: str) -> None:
        """Give up the access to an account.

        Raises AccountNotAccessible if there was none, GatewayUnavailable, and CannotDisconnect.
        """
        ...
