"""Card numbers, tokens and the gateway's own words: refused, or stored out of readers' reach."""

import json
from typing import Any

import httpx
import pytest

from services.payments.tests.signals import (
    CLIENT,
    ORGANIZATION,
    CardIssuer,
    deliver,
    intent_event,
    order,
    succeeded,
)
from services.payments.tests.test_charges import charge
from shared.testing import Database, Tokens

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
NUMBERS = ("4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242", "378282246310005")


def not_repeated(answer: httpx.Response, secret: str) -> bool:
    return answer.status_code == 422 and secret not in answer.text


@pytest.mark.parametrize(
    "token",
    [
        *NUMBERS,
        "pm_4242424242424242",
        "tok_4000056655665556",
        "pm_" + "1" * 19,
        "card_visa",
        "pm_",
        "pm_card visa",
        "src_card_visa",
        "pm_" + "x" * 300,
        "pm_card_visa\n",
        "",
        4242424242424242,
    ],
)
async def test_only_tokens_pay(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    database: Database,
    token: object,
) -> None:
    body = order(payment_token=token)
    answer = await client.post("/internal/charges", json=body, headers=vouchers)
    assert answer.status_code == 422
    assert len(str(token)) < 8 or str(token) not in answer.text
    waiting = await charge(client, vouchers, order(payment_token=None))
    path = f"/api/payments/{waiting['transaction_id']}/confirm"
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    answer = await client.post(path, json={"payment_token": token}, headers=payer)
    assert answer.status_code == 422
    assert len(await database.rows("SELECT * FROM payment_transactions")) == 1


@pytest.mark.parametrize("number", NUMBERS)
async def test_no_text_holds_a_card_number(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens, number: str
) -> None:
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    waiting = await charge(client, vouchers, order(payment_method="cash", payment_token=None))
    base = f"/api/organizations/{ORGANIZATION}/payments/{waiting['transaction_id']}"
    text = f"paid with {number}, thanks"
    for path, field in (("mark-paid", "note"), ("refunds", "reason")):
        answer = await client.post(f"{base}/{path}", json={field: text}, headers=owner)
        assert not_repeated(answer, number)
    harmless = {"note": "transfer 12345678901234567890123456, invoice 4242424242424243"}
    assert (await client.post(f"{base}/mark-paid", json=harmless, headers=owner)).is_success


async def test_unknown_fields_are_refused(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens
) -> None:
    waiting = await charge(client, vouchers, order(payment_token=None))
    own = f"/api/payments/{waiting['transaction_id']}/confirm"
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    for extra in ("card_number", "status", "amount", "client_id"):
        body = {"payment_token": "pm_card_visa", extra: "1"}
        assert (await client.post(own, json=body, headers=payer)).status_code == 422


async def test_canaries_are_in_no_event_answer_or_log(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    database: Database,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    secure = await issuer.card("4000002500003155")
    waiting = await charge(client, vouchers, order(payment_token=secure))
    await charge(client, vouchers, order(payment_token="pm_canary_4711"))
    await charge(client, vouchers, order())
    client_secret = waiting["next_action"]["client_secret"]
    intent = await issuer.intent(client_secret.partition("_secret_")[0])
    await deliver(client, intent_event(succeeded(intent)), "t=1,v1=canary")
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    listed = await client.get(f"/api/organizations/{ORGANIZATION}/payments", headers=owner)
    seen = [
        json.dumps(await database.events()),
        listed.text,
        *capfd.readouterr(),
        caplog.text,
    ]
    for secret in (secure, "pm_canary_4711", client_secret, "4000002500003155", "v1=canary"):
        assert all(secret not in text for text in seen), secret
    values: list[dict[str, Any]] = [
        event["data"]["new_values"] for event in await database.events()
    ]
    for hidden in ("gateway_response", "next_action", "buyer", "seller"):
        assert all(hidden not in value for value in values if "captured_amount" in value)
