"""The account of an organization at the card gateway, opened as its owner opens it."""

from typing import Any

from deploy.api_client import ARRIVES_WITHIN, CardGateway, Person

COUNTRY = "DE"


async def connect_account(cards: CardGateway, owner: Person, client: Person, path: str) -> str:
    """Open an organization's account through its onboarding; return its id at the gateway.

    Waits until a client can buy by card. Raises UnexpectedAnswer, TimeoutError and httpx.HTTPError.
    """
    body = {"return_url": "https://practice.example/payments", "country": COUNTRY}
    link = await owner.call("POST", f"{path}/payment-account", body, expect=201)
    await cards.complete_onboarding(link["url"])
    await client.get_until(
        _are_sold_by_card, "/api/voucher-types/available", seconds=ARRIVES_WITHIN
    )
    return str(link["account"]["gateway_account"])


def _are_sold_by_card(offers: list[dict[str, Any]]) -> bool:
    """Return whether the gateway's report has arrived at payments, and its event at vouchers."""
    return bool(offers) and all("credit_card" in offer["payment_methods"] for offer in offers)
