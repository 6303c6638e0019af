"""SIGKILL for every process in the middle of 200 purchases: nothing is lost, nothing twice."""

import asyncio
import random
from collections import Counter
from typing import Any

import httpx
import pytest

from deploy.api_client import unique
from deploy.demo.story import Story
from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

PURCHASES = 200
AT_ONCE = 8
HEALED_WITHIN = 60.0


class Buyer:
    """Buys as a careful client does: one Idempotency-Key, repeated until there is an answer."""

    def __init__(self, shop: Story) -> None:
        self._shop = shop
        self._places = asyncio.Semaphore(AT_ONCE)
        self.accepted: list[int] = []
        self.progress = asyncio.Event()

    async def buy(self) -> None:
        body = {
            "voucher_type_id": self._shop.voucher_type["id"],
            "payment_method": "credit_card",
            "payment_token": "pm_card_visa",
        }
        headers = {
            "Authorization": f"Bearer {self._shop.client.token}",
            "Idempotency-Key": unique("kill"),
        }
        async with self._places, asyncio.timeout(150):
            while True:
                answer = await self._attempt(body, headers)
                if answer is not None and answer.status_code == 201:
                    self.accepted.append(answer.json()["id"])
                    return
                await asyncio.sleep(0.5)

    async def _attempt(
        self, body: dict[str, Any], headers: dict[str, str]
    ) -> httpx.Response | None:
        try:
            answer = await self._shop.api.post("/api/vouchers/purchase", json=body, headers=headers)
        except httpx.HTTPError:
            return None  # only a repetition shows whether it was done
        assert answer.status_code in (201, 409, 500, 502, 503, 504), answer.text
        return answer


async def _kill_everything_once(stack: Stack, seed: int) -> list[str]:
    """Kill each of our processes once, in an order that the seed gives, with pauses between."""
    dice = random.Random(seed)
    names = [instance.name for instance in stack.system.instances]
    dice.shuffle(names)
    for name in names:
        await asyncio.sleep(dice.uniform(0.3, 1.2))
        stack.kill(name)
    return names


async def _drained(rows: Rows) -> bool:
    services = ("identity", "organizations", "vouchers", "payments", "audit")
    waiting = [row for s in services for row in await rows(f"SELECT id FROM {s}.outbox LIMIT 1")]
    return not waiting


async def _eventually(condition: Any) -> None:
    async with asyncio.timeout(HEALED_WITHIN):
        while not await condition():
            await asyncio.sleep(0.5)


async def test_two_hundred_purchases_survive_every_kill(
    shop: Story, stack: Stack, rows: Rows
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    buyer = Buyer(shop)
    buying = asyncio.gather(*(buyer.buy() for _ in range(PURCHASES)))
    killed = await _kill_everything_once(stack, seed)
    await buying
    await stack.wait_until_ready()
    assert len(killed) >= 11
    assert len(set(buyer.accepted)) == PURCHASES

    organization = shop.organization["id"]

    async def settled() -> bool:
        open_ones = await rows(
            "SELECT 1 FROM payments.payment_transactions WHERE organization_id = $1"
            " AND status IN ('pending', 'processing') LIMIT 1",
            organization,
        )
        audited = await rows(
            "SELECT count(*) AS n FROM audit.audit_logs WHERE organization_id = $1"
            " AND action = 'ACTIVATE'",
            organization,
        )
        return not open_ones and audited[0]["n"] >= PURCHASES and await _drained(rows)

    await _eventually(settled)
    await _check_vouchers(rows, organization, buyer.accepted)
    await _check_payments(shop, rows, organization)
    await _check_audit(rows, organization)


async def _check_vouchers(rows: Rows, organization: int, accepted: list[int]) -> None:
    vouchers = await rows(
        "SELECT v.id, v.status, v.payment_status, count(c.id) AS codes FROM vouchers.vouchers v"
        " LEFT JOIN vouchers.voucher_codes c ON c.voucher_id = v.id"
        " WHERE v.organization_id = $1 GROUP BY v.id",
        organization,
    )
    assert {v["id"] for v in vouchers} == set(accepted), "one voucher for each purchase, no more"
    assert {(v["status"], v["payment_status"], v["codes"]) for v in vouchers} == {
        ("active", "paid", 12)
    }


async def _check_payments(shop: Story, rows: Rows, organization: int) -> None:
    paid = await rows(
        "SELECT voucher_id, gateway_transaction_id, status FROM payments.payment_transactions"
        " WHERE organization_id = $1",
        organization,
    )
    assert Counter(p["status"] for p in paid) == {"succeeded": PURCHASES}
    assert len({p["voucher_id"] for p in paid}) == PURCHASES
    ours = {p["gateway_transaction_id"] for p in paid}
    organization_text = str(organization)

    def of_this_organization(payment: dict[str, Any]) -> bool:
        metadata = payment["metadata"]
        return metadata.get("organization_id") == organization_text or payment["id"] in ours

    captured = await shop.cards.payments(of_this_organization)
    assert Counter(p["id"] for p in captured) == Counter(ours), "the card gateway's books agree"
    numbers = await rows(
        "SELECT number FROM payments.invoices WHERE organization_id = $1 ORDER BY number",
        organization,
    )
    sequence = [int(row["number"].rpartition("-")[2]) for row in numbers]
    assert sequence == list(range(1, PURCHASES + 1)), "invoice numbers have no gap"


async def _check_audit(rows: Rows, organization: int) -> None:
    told = await rows(
        "SELECT action, entity_type, entity_id, count(*) AS n FROM audit.audit_logs"
        " WHERE organization_id = $1 AND entity_type IN ('voucher', 'payment_transaction')"
        " GROUP BY 1, 2, 3",
        organization,
    )
    assert {row["n"] for row in told} == {1}, "one row for each change"
    kinds = Counter((row["action"], row["entity_type"]) for row in told)
    assert kinds["PURCHASE", "voucher"] == PURCHASES
    assert kinds["ACTIVATE", "voucher"] == PURCHASES
    assert kinds["SUCCEED", "payment_transaction"] == PURCHASES
    twice = await rows(
        "SELECT event_id FROM audit.audit_logs GROUP BY event_id HAVING count(*) > 1"
    )
    assert twice == []
