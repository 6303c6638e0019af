"""The account of an organization at the card gateway, opened as its owner opens it."""

import asyncio
import time

from deploy.api_client import CardGateway, Person, UnexpectedAnswer

COUNTRY = "DE"
CONNECTED_WITHIN = 30.0


async def connect_account(cards: CardGateway, owner: Person, client: Person, path: str) -> str:
    """Open an organization's account through its onboarding; return its id at the gateway.

    Waits until a client can buy by card. Raises UnexpectedAnswer and httpx.HTTPError.
    """
    body = {"return_url": "https://practice.example/payments", "country": COUNTRY}
    link = await owner.call("POST", f"{path}/payment-account", body, expect=201)
    await cards.complete_onboarding(link["url"])
    await _wait_until_sold_by_card(client)
    return str(link["account"]["gateway_account"])


async def _wait_until_sold_by_card(client: Person) -> None:
    """Wait until the gateway's report has arrived at payments, and its event at vouchers."""
    until = time.monotonic() + CONNECTED_WITHIN
    while time.monotonic() < until:
        offers = await client.call("GET", "/api/voucher-types/available")
        if offers and all("credit_card" in offer["payment_methods"] for offer in offers):
            return
        await asyncio.sleep(0.2)
    raise UnexpectedAnswer(f"{client.email} cannot buy by card")
