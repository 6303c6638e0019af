"""The interface of a gateway that can store a client's card for later payments."""

from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from services.payments.gateways.protocol import CardReport, GatewayAccount


@dataclass(frozen=True, slots=True)
class CardOrder:
    """The card that a gateway is to store for later payments of a client, on which account."""

    account: GatewayAccount
    card_id: int
    customer_id: str


class CardStorage(Protocol):
    """A gateway that stores cards. Like a charge, storing has two steps.

    `prepare` stores nothing at the customer and may be repeated; only an attempt whose id is
    in our books is confirmed. So no card is stored that our books do not know.
    """

    async def create_customer(
        self, account: GatewayAccount, organization_id: int, client_id: int
    ) -> str:
        """Return the id of the customer that a client's cards are stored for.

        Repeated calls return the same customer wherever the gateway can promise that. Raises
        GatewayUnavailable and GatewayRefused.
        """
        ...

    async def prepare(self, order: CardOrder, token: SecretStr) -> CardReport:
        """Prepare to store the card of a token; raises GatewayUnavailable and GatewayRefused."""
        ...

    async def confirm(self, account: GatewayAccount, setup_id: str) -> CardReport:
        """Store a prepared card, or report its state; raises GatewayUnavailable."""
        ...

    async def look_up(self, account: GatewayAccount, setup_id: str) -> CardReport:
        """Report the state of a card; raises GatewayUnavailable."""
        ...

    async def cancel(self, account: GatewayAccount, setup_id: str) -> CardReport:
        """Make sure that a card can no longer be stored, or report that it was.

        Raises GatewayUnavailable.
        """
        ...

    async def remove(self, account: GatewayAccount, method_id: str) -> None:
        """Delete a stored card; does nothing if it is gone already. Raises GatewayUnavailable."""
        ...
