"""The card gateway in the process of a test, with a receiver of its webhooks."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import stripe

from deploy.local.card_gateway.app import Endpoint, create_app
from deploy.local.card_gateway.store import Store

PLATFORM_HOOK, CONNECT_HOOK = "http://carnet.test/platform", "http://carnet.test/connect"
SECRETS = {PLATFORM_HOOK: "whsec_platform", CONNECT_HOOK: "whsec_connect"}
ONBOARDING = {
    "refresh_url": "https://carnet.test/again",
    "return_url": "https://carnet.test/done",
    "type": "account_onboarding",
}
Fields = Mapping[str, Any]


class Receiver:
    """Receives webhooks, checks their signatures and refuses as many as a test wants."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.refusals = 0
        self.refused: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        url, header = str(request.url), request.headers["stripe-signature"]
        body = request.content.decode()
        stripe.WebhookSignature.verify_header(body, header, SECRETS[url], tolerance=60)
        event = json.loads(body)
        if self.refusals:
            self.refusals -= 1
            self.refused.append(event["id"])
            return httpx.Response(500)
        self.events.append((url, event))
        return httpx.Response(200)

    def types(self, url: str) -> list[str]:
        """Return the types of the events that one address has received."""
        return [event["type"] for address, event in self.events if address == url]


class Books:
    """A client of the card gateway."""

    def __init__(self, client: httpx.AsyncClient, receiver: Receiver) -> None:
        self.client = client
        self.receiver = receiver

    async def send(
        self,
        method: str,
        path: str,
        fields: Fields | None = None,
        account: str | None = None,
        *,
        expect: int = 200,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Send a request and return the parsed body, or the error that it contains."""
        headers = {"Stripe-Account": account} if account else {}
        if key:
            headers["Idempotency-Key"] = key
        query = {"params": fields} if method == "GET" else {"data": fields}
        answer = await self.client.request(method, path, headers=headers, **query)  # type: ignore[arg-type]
        body: dict[str, Any] = answer.json()
        assert answer.status_code == expect, body
        return body["error"] if expect >= 400 else body

    async def post(self, path: str, fields: Fields | None = None, *args: Any, **more: Any) -> Any:
        """Send a POST request."""
        return await self.send("POST", path, fields, *args, **more)

    async def get(self, path: str, fields: Fields | None = None, *args: Any, **more: Any) -> Any:
        """Send a GET request."""
        return await self.send("GET", path, fields, *args, **more)

    async def account(self, outcome: str | None = "complete", country: str = "PL") -> str:
        """Return a new connected account, onboarded with an outcome if there is one."""
        account = await self.post("/v1/accounts", {"type": "standard", "country": country})
        if outcome:
            link = await self.post("/v1/account_links", {"account": account["id"], **ONBOARDING})
            page = await self.client.post(link["url"], data={"outcome": outcome})
            assert page.headers["location"] == ONBOARDING["return_url"]
        return str(account["id"])

    async def pay(
        self, account: str | None = None, amount: int = 10_000, **fields: str | int
    ) -> dict[str, Any]:
        """Pay with a card at once, or as the fields describe."""
        payment = {
            "amount": amount,
            "currency": "pln",
            "payment_method": "pm_card_visa",
            "confirm": "true",
        }
        intent: dict[str, Any] = await self.post("/v1/payment_intents", payment | fields, account)
        return intent


@asynccontextmanager
async def opened_books(store: Store, delay: float = 0.0) -> AsyncIterator[Books]:
    """Run the card gateway with both kinds of webhook endpoints."""
    receiver = Receiver()
    app = create_app(
        store,
        endpoints=(
            Endpoint(PLATFORM_HOOK, SECRETS[PLATFORM_HOOK]),
            Endpoint(CONNECT_HOOK, SECRETS[CONNECT_HOOK], connect=True),
        ),
        webhook_delay=delay,
        transport=httpx.MockTransport(receiver),
    )
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://cards.test", auth=("sk_test_books", "")
        ) as client,
    ):
        yield Books(client, receiver)
