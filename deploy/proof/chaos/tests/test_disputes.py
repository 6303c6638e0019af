"""The bank's events reach the system as Stripe's do: signed, repeated, and finally recorded."""

import json
import random
import time
from collections import Counter

import httpx
import pytest
from stripe import WebhookSignature

from deploy.proof.chaos.client import History
from deploy.proof.chaos.disputes import Bank

pytestmark = pytest.mark.anyio

SECRET = "whsec_chaos_tests"
PAYMENT = {"amount": 399.99, "currency": "EUR", "gateway_transaction_id": "pi_1"}
ACCOUNT = "acct_chaos"
DICE = random.Random(6)


class System:
    """A receiver that is not there for the first deliveries, then busy, then ready."""

    def __init__(self, *answers: int) -> None:
        self.taken: list[bytes] = []
        self.attempts = Counter[bytes]()
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body, header = request.content, request.headers["Stripe-Signature"]
        assert WebhookSignature.verify_header(body, header, SECRET, tolerance=60)
        self.attempts[body] += 1
        answer = self._answers.pop(0) if self._answers else 200
        if not answer:
            raise httpx.ConnectError("nobody listens")
        if answer == 200:
            self.taken.append(body)
        return httpx.Response(answer)


def bank_of(system: System, history: History) -> Bank:
    client = httpx.AsyncClient(transport=httpx.MockTransport(system), base_url="http://gateway")
    return Bank(client, SECRET, history, late_seconds=0.05)


async def test_every_event_is_delivered_until_it_is_taken() -> None:
    system, history = System(0, 0, 503, 400), History()
    bank = bank_of(system, history)
    dispute = bank.dispute(PAYMENT, ACCOUNT, DICE)
    bank.decide(dispute, ACCOUNT, "lost", DICE)
    await bank.wait_until_delivered(give_up_at=time.monotonic() + 30)
    told = Counter(json.loads(body)["type"] for body in set(system.taken))
    assert told == Counter(f"charge.dispute.{w}" for w in ("created", "funds_withdrawn", "closed"))
    assert len(history.of("webhook again")) == 4
    assert history.unanswered == []
    [closed] = [event for event in map(json.loads, set(system.taken)) if "closed" in event["type"]]
    said = closed["data"]["object"]
    assert (said["id"], said["status"], said["amount"]) == (dispute["id"], "lost", 39999)


async def test_events_come_twice_and_out_of_order() -> None:
    system = System()
    bank = bank_of(system, History())
    dice = random.Random(1)
    for _ in range(20):
        bank.decide(bank.dispute(PAYMENT, ACCOUNT, dice), ACCOUNT, "won", dice)
    await bank.wait_until_delivered(give_up_at=time.monotonic() + 30)
    assert set(Counter(system.taken).values()) == {1, 2}
    first: dict[str, str] = {}
    for event in map(json.loads, system.taken):
        first.setdefault(event["data"]["object"]["id"], event["type"])
    assert "charge.dispute.closed" in first.values(), "the end before the beginning"


async def test_an_event_without_a_receiver_is_recorded() -> None:
    history = History()
    bank = bank_of(System(*[503] * 100), history)
    bank.dispute(PAYMENT, ACCOUNT, DICE)
    await bank.wait_until_delivered(give_up_at=time.monotonic() + 0.3)
    assert len(history.unanswered) >= 2
