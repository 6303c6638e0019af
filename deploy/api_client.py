"""A small client of the API for the demo, measurements and tests; it checks each status."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

ANSWERS_WITHIN = 30.0
ARRIVES_WITHIN = 30.0
FOLLOWS_WITHIN = 15.0


class UnexpectedAnswer(Exception):
    """The system did not answer as expected."""


def require(condition: bool, what: str) -> None:
    """Raise UnexpectedAnswer that names an expectation if `condition` is false."""
    if not condition:
        raise UnexpectedAnswer(what)


class Person:
    """A user of the API: a name, an address and, when signed in, an access token."""

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
        """Call the API and return the parsed body. Raises UnexpectedAnswer on another status."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if key:
            headers["Idempotency-Key"] = key
        response = await self.api.request(method, path, json=body, headers=headers, params=params)
        if response.status_code != expect:
            raise UnexpectedAnswer(
                f"{method} {path} answered {response.status_code} instead of {expect}: "
                f"{response.text}"
            )
        return response.json() if response.content else None

    async def get_until(
        self,
        is_there: Callable[[Any], bool],
        path: str,
        params: dict[str, Any] | None = None,
        *,
        seconds: float = FOLLOWS_WITHIN,
    ) -> Any:
        """GET a path until the parsed body is as wanted, and return it.

        For what follows soon from a change elsewhere. Raises UnexpectedAnswer, TimeoutError.
        """
        async with asyncio.timeout(seconds):
            while True:
                body = await self.call("GET", path, params=params)
                if is_there(body):
                    return body
                await asyncio.sleep(0.2)

    async def sign_in(self) -> None:
        """Sign in and store the access token. Raises UnexpectedAnswer when that is refused."""
        credentials = {"email": self.email, "password": self.password}
        self.token = (await self.call("POST", "/api/auth/login", credentials))["access_token"]


class CardGateway:
    """The card gateway as a client's browser uses it, and its payments for comparison."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def token_for_card(self, number: str, account: str | None = None) -> str:
        """Exchange a card number for a token, as the card gateway's script in a web page does.

        With `account` the token is for payments on that connected account.
        """
        form = {
            "type": "card",
            "card[number]": number,
            "card[exp_month]": "12",
            "card[exp_year]": "2035",
            "card[cvc]": "123",
        }
        headers = {"Stripe-Account": account} if account else {}
        answer = await self._client.post("/v1/payment_methods", data=form, headers=headers)
        answer.raise_for_status()
        return str(answer.json()["id"])

    async def authenticate(self, client_secret: str) -> None:
        """Confirm a payment, as the owner of a card does on the bank's 3-D Secure page."""
        form = {"client_secret": client_secret, "success": "true"}
        answer = await self._client.post("/_test/authentications", data=form)
        answer.raise_for_status()

    async def complete_onboarding(self, url: str) -> None:
        """Open the link of a new account, and complete the form behind it as its owner does."""
        page = urlsplit(url).path
        (await self._client.get(page)).raise_for_status()
        answer = await self._client.post(page, data={"outcome": "complete"})
        if answer.is_error:  # a success redirects to the organization's page
            answer.raise_for_status()

    async def payments(
        self, is_selected: Callable[[dict[str, Any]], bool], account: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the selected ones of the payments that the card gateway has captured.

        They are those of a connected account, or without one of the installation's.
        """
        payments: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        headers = {"Stripe-Account": account} if account else {}
        while True:
            answer = await self._client.get(
                "/v1/payment_intents", params={"limit": 100, **after}, headers=headers
            )
            answer.raise_for_status()
            page = answer.json()
            payments += [p for p in page["data"] if p["status"] == "succeeded" and is_selected(p)]
            if not page["has_more"]:
                return payments
            after = {"starting_after": page["data"][-1]["id"]}


class Mailbox:
    """The mailbox page of a local stack, read as a script does."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def link_token(self, recipient: str, page: str) -> str:
        """Return the token of the newest link to a page such as `/account/address`.

        Waits for the first message to the recipient that contains one. Raises TimeoutError.
        """
        mark = f"{page}#token="
        async with (
            asyncio.timeout(ARRIVES_WITHIN),
            httpx.AsyncClient(base_url=self._address) as client,
        ):
            while True:
                answer = await client.get("/messages.json", params={"to": recipient})
                answer.raise_for_status()
                newest_first = sorted(
                    answer.json()["messages"], key=lambda message: message["id"], reverse=True
                )
                links = [link for message in newest_first for link in message["links"]]
                tokens = [link.partition(mark)[2] for link in links if mark in link]
                if tokens:
                    return str(tokens[0])
                await asyncio.sleep(0.1)


def unique(word: str) -> str:
    """Return a text with a random end, which no earlier run has used."""
    return f"{word}-{secrets.token_hex(4)}"
