"""The payers' bank: it wants money back that it paid, and decides; the card gateway tells of it.

The card gateway of tests knows no disputes, so the harness plays its part: events as Stripe
describes and signs them. Each is delivered until it is answered with 2xx, signed anew each time; it
may come twice, and it may come after a later one.
https://docs.stripe.com/webhooks#event-delivery-behaviors, https://docs.stripe.com/api/disputes/object
"""

import asyncio
import hashlib
import hmac
import json
import random
import time
from typing import Any

import httpx

from deploy.api_client import unique
from deploy.local.stack import WEBHOOK_PATH
from deploy.proof.chaos.client import History

LATE_SECONDS = 4.0
"""By so much may an event be late: a later one overtakes it."""
PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 4.0
_TWICE = 0.3
_CENTS = 100

Dispute = dict[str, Any]
"""The gateway's object, as an event carries it."""


class Bank:
    """Opens and decides disputes, and sees to it that the system hears of them."""

    def __init__(
        self,
        api: httpx.AsyncClient,
        secret: str,
        history: History,
        *,
        late_seconds: float = LATE_SECONDS,
    ) -> None:
        self._api = api
        self._secret = secret
        self._history = history
        self._late_seconds = late_seconds
        self._deliveries: list[asyncio.Task[None]] = []
        self._give_up_at = float("inf")

    def dispute(self, payment: dict[str, Any], dice: random.Random) -> Dispute:
        """Want all of a payment's money back, which the API has shown."""
        dispute = {
            "id": unique("dp"),
            "object": "dispute",
            "amount": round(payment["amount"] * _CENTS),
            "currency": payment["currency"].lower(),
            "payment_intent": payment["gateway_transaction_id"],
            "reason": "fraudulent",
            "status": "needs_response",
            "livemode": False,
        }
        self._history.note("dispute", {"id": dispute["id"], "status": "open"})
        for what in ("created", "funds_withdrawn"):
            self._tell(what, dispute, dice)
        return dispute

    def decide(self, dispute: Dispute, status: str, dice: random.Random) -> None:
        """Decide a dispute, `won` by the organization or `lost`."""
        self._history.note("decision", {"id": dispute["id"], "status": status})
        self._tell("closed", {**dispute, "status": status}, dice)

    async def all_told(self, *, give_up_at: float) -> None:
        """Wait until every event was taken; what was not by then (monotonic) is noted."""
        self._give_up_at = give_up_at
        await asyncio.gather(*self._deliveries)

    def stop(self) -> None:
        """Deliver nothing any more."""
        for delivery in self._deliveries:
            delivery.cancel()

    def _tell(self, what: str, dispute: Dispute, dice: random.Random) -> None:
        event = {
            "id": unique("evt"),
            "object": "event",
            "type": f"charge.dispute.{what}",
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": dispute},
        }
        body = json.dumps(event).encode()
        times = 2 if dice.random() < _TWICE else 1
        for _ in range(times):
            late = dice.uniform(0, self._late_seconds)
            self._deliveries.append(asyncio.create_task(self._deliver(body, late)))

    async def _deliver(self, body: bytes, late: float) -> None:
        await asyncio.sleep(late)
        pause = PAUSE_SECONDS
        while time.monotonic() < self._give_up_at:
            if await self._taken(body):
                return
            self._history.note("webhook again", None)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        self._history.unanswered.append(f"webhook: {body.decode()}")

    async def _taken(self, body: bytes) -> bool:
        headers = {
            "Content-Type": "application/json",
            "Stripe-Signature": signed(body, self._secret),
        }
        try:
            answer = await self._api.post(WEBHOOK_PATH, content=body, headers=headers)
        except httpx.HTTPError:
            return False
        return answer.is_success


def signed(body: bytes, secret: str) -> str:
    """Return the header that signs a webhook's body now.

    https://docs.stripe.com/webhooks#verify-manually
    """
    now = int(time.time())
    signature = hmac.new(secret.encode(), b"%d." % now + body, hashlib.sha256).hexdigest()
    return f"t={now},v1={signature}"
