"""The main story, and what a client gets wrong, through the gateway of a whole system."""

import asyncio
import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import pytest

from deploy.demo.bookings import Bookings
from deploy.demo.story import Story
from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

PURCHASE = "/api/vouchers/purchase"


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Every refusal is a problem+json that names itself and the request."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail", "code", "instance"} <= body.keys()
    assert code is None or body["code"] == code
    return body


async def test_every_step_is_one_row_and_no_event_is_left(story: Story, rows: Rows) -> None:
    await story.run()
    await Bookings(story).run()
    async with asyncio.timeout(20):
        while await _waiting(rows):
            await asyncio.sleep(0.2)
    twice = await rows(
        "SELECT event_id, count(*) FROM audit.audit_logs GROUP BY event_id HAVING count(*) > 1"
    )
    assert twice == []


async def _waiting(rows: Rows) -> int:
    services = ("identity", "organizations", "vouchers", "payments", "audit")
    counts = [(await rows(f"SELECT count(*) AS n FROM {s}.outbox"))[0]["n"] for s in services]
    return sum(counts)


def _body(voucher_type_id: int, **changes: Any) -> dict[str, Any]:
    return {
        "voucher_type_id": voucher_type_id,
        "payment_method": "credit_card",
        "payment_token": "pm_card_visa",
        **changes,
    }


async def test_a_purchase_that_cannot_be_made_states_why(shop: Story) -> None:
    client, owner = shop.client, shop.owner
    headers = {"Authorization": f"Bearer {client.token}"}
    api = client.api
    unknown = await api.post(PURCHASE, json=_body(2**40), headers=headers)
    assert_problem(unknown, 404)
    here = f"/api/organizations/{shop.organization['id']}/voucher-types"
    type_id = shop.voucher_type["id"]
    await owner.call("PUT", f"{here}/{type_id}/deactivate")
    assert_problem(await api.post(PURCHASE, json=_body(type_id), headers=headers), 409)
    await owner.call("PUT", f"{here}/{type_id}/activate")
    foreign = {"Authorization": f"Bearer {shop.other_owner.token}"}
    refused = await api.post(PURCHASE, json=_body(type_id), headers=foreign)
    assert refused.status_code in (403, 404)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"voucher_type_id": ', 400),
        (b'{"voucher_type_id": NaN}', 400),
        (b"\xff\xfe", 400),
        (b'{"voucher_type_id": 1, "payment_method": "credit_card", "colour": "red"}', 422),
        (b'{"voucher_type_id": 1e400, "payment_method": "credit_card"}', 422),
        (b'{"voucher_type_id": 99999999999999999999, "payment_method": "cash"}', 422),
        (b"[" * 50_000, 400),
        (b"x" * (1024 * 1024 + 1), 413),
    ],
)
async def test_bad_bodies(shared_shop: Story, content: bytes, status: int) -> None:
    headers = {
        "Authorization": f"Bearer {shared_shop.client.token}",
        "Content-Type": "application/json",
    }
    assert_problem(await shared_shop.api.post(PURCHASE, content=content, headers=headers), status)


async def test_altered_tokens(shared_shop: Story) -> None:
    token = shared_shop.client.token or ""
    head, body, signature = token.split(".")
    broken = [token[:-4] + "AAAA", f"{head}.{body[:-2]}AA.{signature}", "nonsense", "x" * 9000]
    for wrong in broken:
        headers = {"Authorization": f"Bearer {wrong}"}
        answer = await shared_shop.api.get("/api/vouchers/my", headers=headers)
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_forged_addresses_and_identities_are_ignored(shared_shop: Story, rows: Rows) -> None:
    headers = {
        "Authorization": f"Bearer {shared_shop.client.token}",
        "X-Forwarded-For": "203.0.113.7",
        "X-Client-Address": "203.0.113.8",
        "Forwarded": "for=203.0.113.9",
        "X-Real-IP": "203.0.113.10",
        "X-User-Id": "1",
        "X-Actor-Role": "admin",
    }
    answer = await shared_shop.api.post(
        PURCHASE, json=_body(shared_shop.voucher_type["id"]), headers=headers
    )
    assert answer.status_code == 201
    async with asyncio.timeout(15):
        found: list[dict[str, Any]] = []
        while not found:
            await asyncio.sleep(0.1)
            found = await rows(
                "SELECT host(ip_address::inet) AS address, user_id FROM audit.audit_logs"
                " WHERE action = 'PURCHASE' AND entity_id = $1",
                answer.json()["id"],
            )
    me = await shared_shop.client.call("GET", "/api/auth/me")
    assert found == [{"address": "127.0.0.1", "user_id": me["id"]}]


def _signed(secret: str, body: bytes, moment: int) -> str:
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


async def test_forged_webhooks(shared_shop: Story, stack: Stack) -> None:
    path = "/api/payments/webhooks/stripe"
    body = json.dumps(
        {"id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "data": {}}
    ).encode()
    secret, moment = stack.system.stripe_webhook_secret, int(time.time())
    forged = [
        {},
        {"Stripe-Signature": "nonsense"},
        {"Stripe-Signature": _signed("another secret", body, moment)},
        {"Stripe-Signature": _signed(secret, body, moment - 3600)},
        {"Stripe-Signature": _signed(secret, body, moment + 3600)},
        {"Stripe-Signature": _signed(secret, body + b" ", moment)},
    ]
    for headers in forged:
        assert_problem(await shared_shop.api.post(path, content=body, headers=headers), 400)


async def test_internal_and_operators_paths_are_not_reachable(shared_shop: Story) -> None:
    headers = {"Authorization": f"Bearer {shared_shop.client.token}"}
    for path in ("/internal/charges", "/internal/users/1", "/metrics", "/api/../internal/users/1"):
        answer = await shared_shop.api.get(path, headers=headers)
        assert answer.status_code in (400, 404), path


async def test_fifty_purchases_with_one_key_are_one(
    shop: Story, rows: Rows, fresh_key: str
) -> None:
    headers = {"Authorization": f"Bearer {shop.client.token}", "Idempotency-Key": fresh_key}
    body = _body(shop.voucher_type["id"])
    answers = await asyncio.gather(
        *(shop.api.post(PURCHASE, json=body, headers=headers) for _ in range(50))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 409)
    ids = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    again = await shop.api.post(PURCHASE, json=body, headers=headers)
    assert ids | {again.json()["id"]} == {again.json()["id"]}
    changed = await shop.api.post(PURCHASE, json={**body, "notes": "x"}, headers=headers)
    assert_problem(changed, 422, "idempotency_key_reused")
    count = "SELECT count(*) AS n FROM vouchers.vouchers WHERE organization_id = $1"
    assert (await rows(count, shop.organization["id"]))[0]["n"] == 1


async def test_a_service_that_is_down_takes_only_its_own_paths(
    shared_shop: Story, stack: Stack
) -> None:
    name = "audit-api"
    starts = stack.starts(name)
    stack.kill(name)
    answer = await shared_shop.api.get(
        f"/api/organizations/{shared_shop.organization['id']}/audit-logs",
        headers={"Authorization": f"Bearer {shared_shop.owner.token}"},
    )
    others = await shared_shop.api.get(
        "/api/vouchers/my", headers={"Authorization": f"Bearer {shared_shop.client.token}"}
    )
    # Before anything may fail: the tests after this one need the service too.
    await stack.wait_for_start(name, starts + 1)
    await stack.wait_until_ready(name)
    assert_problem(answer, 503)
    assert "retry-after" in answer.headers
    assert others.status_code == 200, others.text
    await shared_shop.owner.call(
        "GET", f"/api/organizations/{shared_shop.organization['id']}/audit-logs"
    )


async def test_the_documentation_needs_no_internet(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    assert PURCHASE in document["paths"]
    assert not [path for path in document["paths"] if path.startswith("/internal")]
    page = await api.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
