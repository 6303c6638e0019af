"""The gateways themselves: units, settings, and what only Stripe itself does."""

from dataclasses import replace
from decimal import Decimal
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.payments.gateways import AccountMode, Gateway, Gateways
from services.payments.gateways.manual import ManualGateway
from services.payments.gateways.minor_units import NotInMinorUnits, from_minor, to_minor
from services.payments.gateways.protocol import (
    INSTALLATION_ACCOUNT,
    ChargeOrder,
    GatewayRefused,
    GatewayUnavailable,
    OnlineGateway,
    PaymentOutcome,
)
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.settings import Settings

pytestmark = pytest.mark.anyio

REFUSALS = (400, 402, 404)
ORDER = ChargeOrder(INSTALLATION_ACCOUNT, 1, 2, 3, Decimal("399.99"), "USD", "Ten sessions")
INTENT = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount": 39999,
    "currency": "usd",
    "status": "requires_confirmation",
    "livemode": False,
    "metadata": {"transaction_id": "1"},
}


class Stripe:
    """What Stripe answers, and what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def gateway(self, key: str = "sk_test_1") -> StripeGateway:
        settings = StripeSettings(
            api_base="https://stripe.test/",
            api_key=SecretStr(key),
            webhook_secret=SecretStr("whsec_1"),
        )
        return StripeGateway(settings, httpx.MockTransport(self))


@given(
    st.decimals(min_value=0, max_value=10**9, places=2),
    st.sampled_from(["USD", "EUR", "PLN", "KWD"]),
)
def test_minor_units_are_exact(amount: Decimal, currency: str) -> None:
    assert from_minor(to_minor(amount, currency), currency) == amount


def test_yen_have_no_fraction() -> None:
    assert to_minor(Decimal("400.00"), "JPY") == 400
    assert from_minor(400, "JPY") == Decimal("400.00")
    with pytest.raises(NotInMinorUnits):
        to_minor(Decimal("400.50"), "JPY")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "resource_missing", "param": "payment_method"}),
        (400, {"code": "token_already_used"}),
        (404, {}),
    ],
)
@pytest.mark.parametrize("token", ["pm_secret", "tok_secret"])
async def test_a_token_of_no_card_is_no_declined_card(
    status: int, error: dict[str, str], token: str
) -> None:
    said = {"type": "invalid_request_error", "message": f"No such PaymentMethod: '{token}'"}
    stripe = Stripe(httpx.Response(status, json={"error": said | error}))
    gateway = stripe.gateway()
    with pytest.raises(GatewayRefused) as refused:
        await gateway.prepare(ORDER, SecretStr(token))
    await gateway.aclose()
    assert refused.value.failure.code == "card_token_unknown"
    assert "secret" not in refused.value.failure.message


async def test_an_intent_is_for_cards_and_carries_our_ids_and_key() -> None:
    stripe = Stripe(httpx.Response(200, json=INTENT))
    gateway = stripe.gateway()
    report = await gateway.prepare(ORDER, SecretStr("pm_card_visa"))
    await gateway.aclose()
    assert (report.outcome, report.amount) == (PaymentOutcome.PREPARED, Decimal("399.99"))
    [request] = stripe.requests
    assert str(request.url) == "https://stripe.test/v1/payment_intents"
    assert request.headers["idempotency-key"] == "carnet-charge-1-pm_card_visa"
    assert request.headers["stripe-version"] == "2026-07-29.dahlia"
    sent = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
    assert sent["amount"] == "39999"
    assert sent["currency"] == "usd"
    assert sent["payment_method"] == "pm_card_visa"
    assert sent["payment_method_types[0]"] == "card"
    assert sent["metadata[transaction_id]"] == "1"
    assert "confirm" not in sent


async def test_the_intent_of_a_payment_without_an_id_is_identified_by_its_voucher() -> None:
    stripe = Stripe(httpx.Response(200, json=INTENT))
    gateway = stripe.gateway()
    await gateway.prepare(replace(ORDER, transaction_id=None), SecretStr("pm_card_visa"))
    await gateway.aclose()
    [request] = stripe.requests
    key = f"carnet-charge-voucher-{ORDER.voucher_id}-pm_card_visa"
    assert request.headers["idempotency-key"] == key
    sent = parse_qs(request.content.decode())
    assert sent["metadata[voucher_id]"] == [str(ORDER.voucher_id)]
    assert "metadata[transaction_id]" not in sent


async def test_a_card_token_becomes_a_payment_method() -> None:
    made = {"id": "pm_made", "object": "payment_method"}
    stripe = Stripe(httpx.Response(200, json=made), httpx.Response(200, json=INTENT))
    gateway = stripe.gateway()
    await gateway.prepare(ORDER, SecretStr("tok_visa"))
    await gateway.aclose()
    assert b"card[token]=tok_visa" in stripe.requests[0].content
    assert b"payment_method=pm_made" in stripe.requests[1].content


async def test_the_same_call_again_is_the_same_to_stripe() -> None:
    """A token is good for once, and a key for one set of parameters."""
    made = {"id": "pm_made", "object": "payment_method"}
    stripe = Stripe(*[httpx.Response(200, json=answer) for answer in (made, INTENT) * 2])
    gateway = stripe.gateway()
    for _ in range(2):
        await gateway.prepare(ORDER, SecretStr("tok_visa"))
    await gateway.aclose()
    asked = [(r.headers["idempotency-key"], r.content) for r in stripe.requests]
    assert asked[:2] == asked[2:]
    assert "tok_visa" not in asked[0][0]


async def test_another_card_is_another_request_to_stripe() -> None:
    stripe = Stripe(*[httpx.Response(200, json=INTENT) for _ in range(2)])
    gateway = stripe.gateway()
    for token in ("pm_1", "pm_2"):
        await gateway.prepare(ORDER, SecretStr(token))
    await gateway.aclose()
    first, second = [request.headers["idempotency-key"] for request in stripe.requests]
    assert first != second


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(402, json={"error": {"type": "card_error", "code": "x"}}), GatewayRefused),
        (httpx.Response(400, json={"error": {"type": "invalid_request_error"}}), GatewayRefused),
        (httpx.Response(400, json={"error": {"type": "idempotency_error"}}), GatewayUnavailable),
        (httpx.Response(401, json={"error": {"message": "no such key"}}), GatewayUnavailable),
        (httpx.Response(403, json={"error": {"message": "not yours"}}), GatewayUnavailable),
        (httpx.Response(429, json={"error": {"message": "slow"}}), GatewayUnavailable),
        (httpx.Response(500, json={"error": {"message": "oh"}}), GatewayUnavailable),
        (httpx.Response(200, content=b"<html>"), GatewayUnavailable),
        (httpx.Response(400, json={"error": {"code": "rate_limit"}}), GatewayUnavailable),
        *((httpx.Response(status, content=b"<html>"), GatewayUnavailable) for status in REFUSALS),
        *((httpx.Response(status, json={"error": 1}), GatewayUnavailable) for status in REFUSALS),
        (httpx.ConnectTimeout("slow"), GatewayUnavailable),
        (httpx.RemoteProtocolError("cut"), GatewayUnavailable),
    ],
)
async def test_what_lies_with_the_payer_and_what_does_not(
    answer: httpx.Response | Exception, error: type[Exception]
) -> None:
    stripe = Stripe(answer)
    gateway = stripe.gateway()
    with pytest.raises(error):
        await gateway.prepare(ORDER, SecretStr("pm_card_visa"))
    await gateway.aclose()
    assert len(stripe.requests) == 1, "the library must not repeat by itself"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(404, json={"error": {"code": "resource_missing"}}), GatewayRefused),
        (httpx.Response(404, json={"message": "no route"}), GatewayUnavailable),
        (httpx.Response(404, content=b"<html>"), GatewayUnavailable),
        (httpx.Response(400, json={"error": {"message": "?"}}), GatewayUnavailable),
        (httpx.Response(401, json={"error": {"message": "no such key"}}), GatewayUnavailable),
        (httpx.Response(500, json={"error": {"message": "oh"}}), GatewayUnavailable),
        (httpx.ConnectTimeout("slow"), GatewayUnavailable),
    ],
)
async def test_only_stripe_itself_reports_an_unknown_payment(
    answer: httpx.Response | Exception, error: type[Exception]
) -> None:
    gateway = Stripe(answer).gateway()
    with pytest.raises(error):
        await gateway.refunds_of(INSTALLATION_ACCOUNT, "pi_1")
    await gateway.aclose()


async def test_a_redirect_is_passed_on() -> None:
    action = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.test/3ds"}}
    waiting = INTENT | {"status": "requires_action", "next_action": action, "client_secret": "s"}
    stripe = Stripe(httpx.Response(200, json=waiting))
    gateway = stripe.gateway()
    report = await gateway.confirm(INSTALLATION_ACCOUNT, "pi_1")
    await gateway.aclose()
    assert report.next_action == {
        "type": "redirect_to_url",
        "redirect_url": "https://bank.test/3ds",
        "client_secret": "s",
    }


@pytest.mark.parametrize(("key", "live"), [("sk_test_1", False), ("sk_live_1", True)])
async def test_the_key_determines_the_mode(key: str, live: bool) -> None:
    gateway = Stripe().gateway(key)
    assert gateway.live is live
    assert isinstance(gateway, OnlineGateway)
    await gateway.aclose()


async def test_a_method_is_moved_to_another_gateway_by_one_setting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = settings.model_dump() | {"gateways": {"credit_card": "manual"}}
    gateways = Settings.model_validate(changed).open_gateways()
    assert {gateways.for_method(method).name for method in Method} == {"manual"}
    assert gateways.all_online() == []
    monkeypatch.setenv("PAYMENTS_STRIPE_API_KEY", "sk_test_1")
    monkeypatch.setenv("PAYMENTS_STRIPE_WEBHOOK_SECRET", "whsec_1")
    usual = settings.open_gateways()
    assert usual.for_method("credit_card").name == "stripe"
    await usual.aclose()


@pytest.mark.parametrize("name", ["../settings", "os", "", "no.such"])
def test_only_files_of_the_folder_are_gateways(name: str) -> None:
    with pytest.raises((ValueError, ModuleNotFoundError)):
        Gateways.open({"credit_card": name})


def stripe_settings(**changes: str) -> StripeSettings:
    values = {"api_key": "sk_test_1", "webhook_secret": "whsec_1", **changes}
    return StripeSettings.model_validate(values)


def test_an_empty_secret_is_no_secret() -> None:
    """Anybody could sign with it. Docker Compose sets a missing variable to an empty text."""
    with pytest.raises(ValueError, match="webhook_secret"):
        stripe_settings(webhook_secret="")
    settings = stripe_settings(connect_webhook_secret="", publishable_key="", client_id="")
    assert settings.connect_webhook_secret is None
    assert (settings.publishable_key, settings.client_id) == (None, None)
    gateway = StripeGateway(settings)
    with pytest.raises(ValueError, match="PAYMENTS_STRIPE_CONNECT_WEBHOOK_SECRET: is not set"):
        gateway.require_connections()


@pytest.mark.parametrize(
    ("base", "connect_base"),
    [
        ("https://api.stripe.com", "https://connect.stripe.com"),
        ("https://api.stripe.com/", "https://connect.stripe.com"),
        ("http://127.0.0.1:8420", "http://127.0.0.1:8420"),
    ],
    ids=["stripe", "slash", "local"],
)
def test_stripe_disconnects_at_a_host_of_its_own(base: str, connect_base: str) -> None:
    assert stripe_settings(api_base=base).connect_base == connect_base


class ChargingGateway(StripeGateway):
    """An online gateway that connects no accounts."""

    name = "charging"
    create_account = None  # type: ignore[assignment]


def test_a_gateway_without_connected_accounts_is_refused_in_their_mode() -> None:
    settings = stripe_settings(connect_webhook_secret="whsec_2")
    connecting, charging = StripeGateway(settings), ChargingGateway(settings)
    manual = ManualGateway()
    accepted: list[dict[str, Gateway]] = [{"cash": manual}, {"credit_card": connecting}]
    for by_method in accepted:
        Gateways(by_method, accounts=AccountMode.ORGANIZATION).require_connections()
    Gateways({"credit_card": charging}).require_connections()
    refused = Gateways({"credit_card": charging}, accounts=AccountMode.ORGANIZATION)
    with pytest.raises(ValueError, match="charging, the gateway of credit_card, does not"):
        refused.require_connections()
