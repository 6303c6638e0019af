"""What reaches payments from outside: charges, signed webhooks, and the other side's own view."""

import hashlib
import hmac
import itertools
import json
import time
from typing import Any

import httpx

from shared.actors import Actor

WEBHOOK_SECRET = "whsec_payments_tests"
CONNECT_WEBHOOK_SECRET = "whsec_payments_tests_connect"
ORGANIZATION, OTHER_ORGANIZATION, CLIENT = 7, 8, 70
ADMIN = Actor(user_id=1, role="admin")

_voucher_ids = itertools.count(1)
_event_ids = itertools.count(1)


def order(**changes: Any) -> dict[str, Any]:
    """Return the body of a charge of a fresh voucher, as vouchers sends it."""
    return {
        "voucher_id": next(_voucher_ids),
        "organization_id": ORGANIZATION,
        "client_id": CLIENT,
        "amount": 399.99,
        "currency": "USD",
        "payment_method": "credit_card",
        "payment_token": "pm_card_visa",
        "description": "Standard Individual Therapy",
        "buyer": {"name": "Clara Client", "email": "clara@example.org"},
        "seller": {
            "name": "Praxis Żółw",
            "slug": "praxis",
            "address": "Main Street 1, 00-001 Warszawa",
            "tax_id": "PL1234567890",
            "timezone": "Europe/Warsaw",
            "email": "office@example.org",
            "phone": "+48 22 123 45 67",
            "logo_url": None,
        },
        **changes,
    }


def succeeded(intent: dict[str, Any]) -> dict[str, Any]:
    """Return an intent as it is once it is paid."""
    changes = {"status": "succeeded", "amount_received": intent["amount"], "next_action": None}
    return intent | changes


def intent_event(intent: dict[str, Any], kind: str = "succeeded", **changes: Any) -> bytes:
    """Return the body of an event about an intent."""
    return event(f"payment_intent.{kind}", intent, **changes)


def event(kind: str, content: dict[str, Any], **changes: Any) -> bytes:
    """Return the body of an event, with an id that never was."""
    body = {
        "id": f"evt_test_{time.time_ns()}_{next(_event_ids)}",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": content},
        **changes,
    }
    return json.dumps(body).encode()


def dispute_of(intent_id: str, dispute_id: str = "dp_1", **changes: Any) -> dict[str, Any]:
    """Return a dispute of an intent, as Stripe describes it."""
    return {
        "id": dispute_id,
        "object": "dispute",
        "amount": 39999,
        "currency": "usd",
        "charge": "ch_1",
        "payment_intent": intent_id,
        "reason": "fraudulent",
        "status": "needs_response",
        "livemode": False,
        **changes,
    }


def signature(body: bytes, *, at: float | None = None, secret: str = WEBHOOK_SECRET) -> str:
    """Return the header that signs a body."""
    moment = int(time.time() if at is None else at)
    signed = hmac.new(secret.encode(), b"%d." % moment + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={signed}"


async def deliver_connect(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    """Deliver a webhook about a connected account, signed now."""
    header = signature(body, secret=CONNECT_WEBHOOK_SECRET)
    return await deliver(client, body, header, address="stripe/connect")


async def deliver(
    client: httpx.AsyncClient, body: bytes, header: str | None = None, *, address: str = "stripe"
) -> httpx.Response:
    """Deliver a webhook, signed now unless a header is given."""
    signed = signature(body) if header is None else header
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"stripe-signature", signed.encode("latin-1")),
    ]
    return await client.post(f"/api/payments/webhooks/{address}", content=body, headers=headers)


class CardIssuer:
    """The other side: what the payer's bank does, and what the gateway's own ledger contains.

    The ledger is that of a connected account, or of the installation's own account.
    """

    def __init__(self, client: httpx.AsyncClient, account: str | None = None) -> None:
        self._client = client
        self._headers = {"Stripe-Account": account} if account else {}

    def of(self, account: str) -> "CardIssuer":
        """Return the same gateway with the ledger of a connected account."""
        return CardIssuer(self._client, account)

    async def account(self, outcome: str = "complete", country: str = "US") -> str:
        """Return the id of a new connected account whose owner went through the onboarding."""
        account = await self._post("/v1/accounts", {"type": "standard", "country": country})
        await self.change_account(account["id"], outcome=outcome)
        return str(account["id"])

    async def change_account(self, account: str, **changes: Any) -> None:
        """Change what the gateway thinks of a connected account."""
        await self._post(f"/_test/accounts/{account}", changes)

    async def deauthorize(self, account: str) -> None:
        """Be the owner of a connected account who removes the installation from it."""
        await self._post(f"/_test/accounts/{account}/deauthorize", {})

    async def accounts(self) -> list[dict[str, Any]]:
        """Return the accounts that are connected, newest first."""
        answer = await self._client.get("/v1/accounts", params={"limit": "100"})
        accounts: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return accounts

    async def onboard(self, url: str, outcome: str = "complete") -> str:
        """Be the owner of an account at the end of a link; return where the browser is sent."""
        answer = await self._client.post(url, data={"outcome": outcome})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def customers(self, number: int) -> None:
        """Create customers, which changes no money and is an event each."""
        for _ in range(number):
            await self._post("/v1/customers", {})

    async def pay_out(self, status: str = "paid", currency: str = "usd") -> dict[str, Any]:
        """Pay out all money of the account, as the gateway does each day."""
        return await self._post("/_test/payouts", {"currency": currency, "status": status})

    async def settle_payout(self, payout_id: str, status: str) -> None:
        """Be the owner's bank, which accepts or returns a payout."""
        await self._post(f"/_test/payouts/{payout_id}", {"status": status})

    async def dispute(self, intent_id: str, **fields: Any) -> dict[str, Any]:
        """Be the payer's bank, which disputes a payment."""
        return await self._post("/_test/disputes", {"payment_intent": intent_id, **fields})

    async def decide_dispute(self, dispute_id: str, status: str) -> None:
        """Be the payer's bank, which decides a dispute."""
        await self._post(f"/_test/disputes/{dispute_id}", {"status": status})

    async def balance(self) -> dict[str, int]:
        """Return the money of the account by currency, in minor units."""
        answer = await self._client.get("/v1/balance", headers=self._headers)
        parts = answer.raise_for_status().json()
        totals: dict[str, int] = {}
        for part in (*parts["available"], *parts["pending"]):
            totals[part["currency"]] = totals.get(part["currency"], 0) + part["amount"]
        return totals

    async def events(self) -> list[dict[str, Any]]:
        """Return the events of the account, oldest first."""
        query, events = {"limit": "100"}, list[dict[str, Any]]()
        while True:
            answer = await self._client.get("/v1/events", params=query, headers=self._headers)
            page = answer.raise_for_status().json()
            events += page["data"]
            if not page["has_more"]:
                return events[::-1]
            query["starting_after"] = events[-1]["id"]

    async def card(self, number: str) -> str:
        """Return the token of a card, as the card form makes it."""
        card = {"number": number, "exp_month": 12, "exp_year": 2031, "cvc": "123"}
        fields = {f"card[{name}]": value for name, value in card.items()}
        made = await self._post("/v1/payment_methods", {"type": "card", **fields})
        return str(made["id"])

    async def cards_of(self, customer_id: str) -> list[dict[str, Any]]:
        """Return the cards that are stored for a customer."""
        answer = await self._client.get(
            f"/v1/customers/{customer_id}/payment_methods", headers=self._headers
        )
        cards: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return cards

    async def intent(self, intent_id: str) -> dict[str, Any]:
        """Return the present state of an intent."""
        expand = {"expand[]": "latest_charge.refunds"}
        answer = await self._client.get(
            f"/v1/payment_intents/{intent_id}", params=expand, headers=self._headers
        )
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def authenticate(self, next_action: dict[str, Any], *, success: bool) -> None:
        """Be the payer who confirms with the bank, or fails to."""
        body = {"client_secret": next_action["client_secret"], "success": success}
        await self._post("/_test/authentications", body)

    async def refund(self, intent_id: str, amount: int) -> dict[str, Any]:
        """Refund at the gateway's own console, in minor units."""
        return await self._post("/v1/refunds", {"payment_intent": intent_id, "amount": amount})

    async def charge_of(self, intent_id: str) -> dict[str, Any]:
        """Return the charge of an intent, with its refunds."""
        charge = (await self.intent(intent_id))["latest_charge"]
        found: dict[str, Any] = charge
        return found

    async def net(self, transaction_id: int) -> int:
        """Return captures less refunds of one of our payments, in minor units."""
        total = 0
        for intent in await self.intents():
            charge = intent["latest_charge"]
            if intent["metadata"].get("transaction_id") == str(transaction_id) and charge:
                if charge["status"] == "succeeded":
                    total += charge["amount"]
                total -= charge["amount_refunded"]
        return total

    async def captures(self, voucher_id: int) -> int:
        """Return how often a voucher was charged."""
        intents = await self.intents_of(voucher_id)
        return sum(intent["status"] == "succeeded" for intent in intents)

    async def intents_of(self, voucher_id: int) -> list[dict[str, Any]]:
        """Return every intent that was made for a voucher."""
        return [
            intent
            for intent in await self.intents()
            if intent["metadata"].get("voucher_id") == str(voucher_id)
        ]

    async def intents(self) -> list[dict[str, Any]]:
        """Return every intent with its latest charge, newest first."""
        intents: list[dict[str, Any]] = []
        query = {"limit": "100", "expand[]": "data.latest_charge"}
        while True:
            answer = await self._client.get(
                "/v1/payment_intents", params=query, headers=self._headers
            )
            page = answer.raise_for_status().json()
            intents += page["data"]
            if not page["has_more"]:
                return intents
            query["starting_after"] = intents[-1]["id"]

    async def application_fees(self) -> list[dict[str, Any]]:
        """Return what the installation's own account took of payments on connected accounts."""
        answer = await self._client.get("/v1/application_fees", params={"limit": "100"})
        fees: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return fees

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client.post(path, data=body, headers=self._headers)
        made: dict[str, Any] = answer.raise_for_status().json()
        return made
