"""A closed organization: no sign-in, no offers, no sales; what was sold stays."""

import time
from typing import Any

import httpx
import pytest

from deploy.api_client import Person
from deploy.demo.story import Story
from deploy.tests.stack.conftest import IN_ONE_PROCESS

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

PROMISED_SECONDS = 1.0
PATIENCE = 30.0
"""The promise holds on a machine that has time; this is how late a busy one may be."""


async def _answer(
    who: Person, method: str, path: str, body: dict[str, Any] | None = None
) -> tuple[int, str | None]:
    headers = {"Authorization": f"Bearer {who.token}"} if who.token else {}
    answer: httpx.Response = await who.api.request(method, path, json=body, headers=headers)
    told = answer.json()
    return answer.status_code, told.get("code") if isinstance(told, dict) else None


async def _what_is_closed(shop: Story, order: dict[str, Any]) -> dict[str, bool]:
    client, admin = shop.client, shop.admin
    sign_in = {"email": shop.therapist.email, "password": shop.therapist.password}
    offers = await admin.call("GET", "/api/voucher-types/available", params={"limit": 200})
    return {
        "sign-in": await _answer(Person(shop.api, "", "", ""), "POST", "/api/auth/login", sign_in)
        == (403, "organization_deactivated"),
        "session": (await _answer(client, "GET", "/api/vouchers/my"))[0] == 401,
        "sale": all(offer["id"] != shop.voucher_type["id"] for offer in offers),
        "purchase": await _answer(admin, "POST", "/api/vouchers/purchase", order)
        == (409, "organization_inactive"),
    }


async def test_deactivation_reaches_sign_in_sale_and_purchase(shop: Story) -> None:
    bought = {
        "voucher_type_id": shop.voucher_type["id"],
        "payment_method": "credit_card",
        "payment_token": "pm_card_visa",
    }
    voucher = await shop.client.call("POST", "/api/vouchers/purchase", bought, expect=201)
    order = {**bought, "client_id": voucher["client_id"]}
    path = f"/api/admin/organizations/{shop.organization['id']}"
    assert not any((await _what_is_closed(shop, order)).values())
    await shop.admin.call("DELETE", path)
    since = time.monotonic()
    closed: dict[str, bool] = {}
    while not closed or not all(closed.values()):
        assert time.monotonic() - since < PATIENCE, closed
        closed = await _what_is_closed(shop, order)
    print(f"closed everywhere after {time.monotonic() - since:.2f} of {PROMISED_SECONDS} s")
    spent = await shop.admin.call(
        "POST", f"/api/vouchers/{voucher['id']}/redemptions", {}, expect=201
    )
    assert spent["voucher_status"] == "active", "what was sold is still redeemed"
    await shop.admin.call("PUT", path, {"is_active": True})
    since = time.monotonic()
    while (still := await _what_is_closed(shop, order))["sign-in"] or still["sale"]:
        assert time.monotonic() - since < PATIENCE, still
