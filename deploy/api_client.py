"""A client of the API for the demonstration: it knows addresses, and checks what comes back."""

import secrets
from collections.abc import Callable
from typing import Any

import httpx

ANSWERS_WITHIN = 30.0


class UnexpectedAnswer(Exception):
    """A step did not end as the story says it should."""


def require(condition: bool, what: str) -> None:
    """Raise UnexpectedAnswer with what should have been true."""
    if not condition:
        raise UnexpectedAnswer(what)


class Person:
    """Somebody with a browser or a telephone: a name, and a token once signed in."""

    def __init__(self, api: httpx.AsyncClient, name: str, email: str, password: str) -> None:
        self.api = api
        self.name = name
        self.email = email
        self.password = password
        self.token: str | None = None

    async def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        expect: int = 200,
        key: str | None = None,
        params: dict[str, Any] | None = None,
    ) -> Any:
        """Call the API and return the parsed answer; raises UnexpectedAnswer on another status."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if key:
            headers["Idempotency-Key"] = key
        answer = await self.api.request(method, path, json=body, headers=headers, params=params)
        if answer.status_code != expect:
            raise UnexpectedAnswer(
                f"{method} {path} answered {answer.status_code} instead of {expect}: {answer.text}"
            )
        return answer.json() if answer.content else None

    async def sign_in(self) -> None:
        """Sign in; raises UnexpectedAnswer when that is refused."""
        credentials = {"email": self.email, "password": self.password}
        self.token = (await self.call("POST", "/api/auth/login", credentials))["access_token"]


class CardGateway:
    """What the customer's browser does at the card gateway, and its books for comparison."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def token_for_card(self, number: str) -> str:
        """Exchange a card number for a token, as the gateway's script in a page does."""
        form = {
            "type": "card",
            "card[number]": number,
            "card[exp_month]": "12",
            "card[exp_year]": "2035",
            "card[cvc]": "123",
        }
        answer = await self._client.post("/v1/payment_methods", data=form)
        answer.raise_for_status()
        return str(answer.json()["id"])

    async def authenticate(self, client_secret: str) -> None:
        """Confirm a payment as the card's owner does on the bank's 3-D Secure page."""
        intent = client_secret.partition("_secret_")[0]
        form = {"client_secret": client_secret, "success": "true"}
        answer = await self._client.post(f"/v1/payment_intents/{intent}/_authenticate", data=form)
        answer.raise_for_status()

    async def payments(self, chosen: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Return the payments in the gateway's own books that were captured and are chosen."""
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            answer = await self._client.get("/v1/payment_intents", params={"limit": 100, **after})
            answer.raise_for_status()
            page = answer.json()
            found += [p for p in page["data"] if p["status"] == "succeeded" and chosen(p)]
            if not page["has_more"]:
                return found
            after = {"starting_after": page["data"][-1]["id"]}


def unique(word: str) -> str:
    """Return a word that no earlier run has used."""
    return f"{word}-{secrets.token_hex(4)}"
