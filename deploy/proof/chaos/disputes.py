"""The payers' bank: it disputes payments and decides the disputes; the card gateway reports them.

The harness sends these events itself, signed and in the format of Stripe, to delay and repeat them.
Each is delivered until it is answered with 2xx, with a new signature each time.
An event may arrive twice or after a later one.
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
from deploy.local.stack import CONNECT_WEBHOOK_PATH
from deploy.proof.chaos.client import History

LATE_SECONDS = 4.0
"""The longest delay of an event, so that a later one can overtake it."""
PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 4.0
_TWICE = 0.3
_CENTS = 100

Dispute = dict[str, Any]
"""The gateway's object, as an event carries it."""


class Bank:
    """Opens and decides disputes, and delivers their events to the system."""

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

    def dispute(self, payment: dict[str, Any], account: str, dice: random.Random) -> Dispute:
        """Dispute a whole payment on an account, in the form of the API's response."""
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
        self._history.record("dispute", {"id": dispute["id"], "status": "open"})
        for name in ("created", "funds_withdrawn"):
            self._send(name, dispute, account, dice)
        return dispute

    def decide(self, dispute: Dispute, account: str, status: str, dice: random.Random) -> None:
        """Decide a dispute, `won` by the organization or `lost`."""
        self._history.record("decision", {"id": dispute["id"], "status": status})
        self._send("closed", {**dispute, "status": status}, account, dice)

    async def wait_until_delivered(self, *, give_up_at: float) -> None:
        """Wait until every event is delivered; record those that are not at a monotonic time."""
        self._give_up_at = give_up_at
        await asyncio.gather(*self._deliveries)

    def stop(self) -> None:
        """Cancel all deliveries."""
        for delivery in self._deliveries:
            delivery.cancel()

    def _send(self, name: str, dispute: Dispute, account: str, dice: random.Random) -> None:
        event = {
            "id": unique("evt"),
            "object": "event",
            "type": f"charge.dispute.{name}",
            "created": int(time.time()),
            "livemode": False,
            "account": account,
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
            if await self._post(body):
                return
            self._history.record("webhook again", None)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        self._history.unanswered.append(f"webhook: {body.decode()}")

    async def _post(self, body: bytes) -> bool:
        headers = {
            "Content-Type": "application/json",
            "Stripe-Signature": signed(body, self._secret),
        }
        try:
            answer = await self._api.post(CONNECT_WEBHOOK_PATH, content=body, headers=headers)
        except httpx.HTTPError:
            return False
        return answer.is_success


def signed(body: bytes, secret: str) -> str:
    """Return the header with the current signature of a webhook's body.

    https://docs.stripe.com/webhooks#verify-manually
    """
    now = int(time.time())
    signature = hmac.new(secret.encode(), b"%d." % now + body, hashlib.sha256).hexdigest()
    return f"t={now},v1={signature}"
