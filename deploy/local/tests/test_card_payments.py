"""Payments with the cards of Stripe's documentation, 3-D Secure, saved cards, refused requests."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from deploy.local.card_gateway.app import create_app
from deploy.local.card_gateway.routes import OPERATIONS
from deploy.local.card_gateway.store import Store
from deploy.local.tests.card_books import Books, opened_books
from services.payments.gateways.protocol import (
    INSTALLATION_ACCOUNT,
    ChargeOrder,
    PaymentOutcome,
    RefundOrder,
)
from services.payments.gateways.stripe import StripeGateway, StripeSettings

pytestmark = pytest.mark.anyio

INTENTS = "/v1/payment_intents"


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with opened_books(Store(":memory:")) as books:
        yield books


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
        ("pm_card_chargeCustomerFail", "card_declined", None),
    ],
)
async def test_a_declined_card_leaves_a_failed_charge(
    books: Books, card: str, code: str, decline_code: str | None
) -> None:
    intent = await books.pay(payment_method=card, confirm="false")
    path = f"{INTENTS}/{intent['id']}"
    error = await books.post(f"{path}/confirm", expect=402)
    assert (error["type"], error["code"]) == ("card_error", code)
    assert error.get("decline_code") == decline_code
    stored = await books.get(path, {"expand[]": "latest_charge"})
    assert error["payment_intent"]["status"] == stored["status"] == "requires_payment_method"
    assert stored["last_payment_error"]["code"] == code
    charge = stored["latest_charge"]
    assert (charge["status"], charge["paid"], charge["failure_code"]) == ("failed", False, code)
    assert (await books.get("/v1/balance_transactions"))["data"] == []
    again = {"payment_method": "pm_card_visa"}
    assert (await books.post(f"{path}/confirm", again))["status"] == "succeeded"


async def test_three_d_secure_ends_on_a_page_or_by_one_request(books: Books) -> None:
    intent = await books.pay(
        payment_method="pm_card_authenticationRequired", return_url="https://carnet.test/back"
    )
    assert intent["status"] == "requires_action"
    redirect = intent["next_action"]["redirect_to_url"]
    page = await books.client.get(redirect["url"])
    assert intent["id"] in page.text
    done = await books.client.post(redirect["url"], data={"success": "true"})
    assert (done.status_code, done.headers["location"]) == (303, "https://carnet.test/back")
    assert (await books.get(f"{INTENTS}/{intent['id']}"))["status"] == "succeeded"
    second = await books.pay(payment_method="pm_card_authenticationRequired")
    assert second["next_action"]["type"] == "use_stripe_sdk"
    answer = {"client_secret": second["client_secret"], "success": "false"}
    failed = await books.post("/_test/authentications", answer)
    assert failed["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    await books.post("/_test/authentications", answer, expect=400)
    await books.post("/_test/authentications", {"client_secret": "pi_1_secret_2"}, expect=404)
    third = await books.pay(payment_method="pm_card_threeDSecureRequiredChargeDeclined")
    declined = await books.post("/_test/authentications", {"client_secret": third["client_secret"]})
    assert declined["status"] == "requires_payment_method"


async def test_a_card_is_kept_with_an_account_and_charged_off_session(books: Books) -> None:
    account = await books.account()
    customer = await books.post("/v1/customers", {"email": "clara@example.org"}, account)
    setup = await books.post(
        "/v1/setup_intents",
        {
            "customer": customer["id"],
            "payment_method": "pm_card_authenticationRequiredOnSetup",
            "confirm": "true",
        },
        account,
    )
    assert setup["status"] == "requires_action"
    secret = {"client_secret": setup["client_secret"]}
    assert (await books.post("/_test/authentications", secret))["status"] == "succeeded"
    path = f"/v1/customers/{customer['id']}/payment_methods"
    [method] = (await books.get(path, None, account))["data"]
    later: dict[str, Any] = {
        "customer": customer["id"],
        "off_session": "true",
        "payment_method": method["id"],
    }
    for _ in range(2):
        assert (await books.pay(account, **later))["status"] == "succeeded"
    on_session = await books.pay(account, **(later | {"off_session": "false"}))
    assert on_session["status"] == "requires_action"
    await books.post(f"/v1/payment_methods/{method['id']}/detach", None, account)
    assert (await books.get(path, None, account))["data"] == []
    payment = later | {"amount": 500, "currency": "pln", "confirm": "true"}
    error = await books.post(INTENTS, payment, account, expect=400)
    assert error["code"] == "payment_method_unexpected_state"


async def test_a_card_that_must_be_authenticated_is_declined_off_session(books: Books) -> None:
    customer = await books.post("/v1/customers", {"payment_method": "pm_card_visa"})
    fields = {
        "amount": 500,
        "currency": "pln",
        "confirm": "true",
        "off_session": "true",
        "customer": customer["id"],
        "payment_method": "pm_card_authenticationRequired",
    }
    error = await books.post(INTENTS, fields, expect=402)
    assert error["code"] == "authentication_required"


async def test_a_card_is_used_once_unless_a_customer_keeps_it(books: Books) -> None:
    card = {"card[number]": "4242424242424242", "card[exp_month]": 12, "card[exp_year]": 2040}
    token = await books.post("/v1/tokens", {"card[cvc]": "123", **card})
    exchange = {"type": "card", "card[token]": token["id"]}
    method = await books.post("/v1/payment_methods", exchange)
    assert (await books.post("/v1/payment_methods", exchange, expect=400))["code"] == (
        "token_already_used"
    )
    assert (await books.pay(payment_method=method["id"]))["status"] == "succeeded"
    fields = {"amount": 500, "currency": "pln", "payment_method": method["id"], "confirm": "true"}
    error = await books.post(INTENTS, fields, expect=400)
    assert error["code"] == "payment_method_unexpected_state"
    declining = card | {"card[number]": "4000000000000002", "type": "card"}
    created = await books.post("/v1/payment_methods", declining)
    customer = {"customer": (await books.post("/v1/customers"))["id"]}
    error = await books.post(f"/v1/payment_methods/{created['id']}/attach", customer, expect=402)
    assert error["code"] == "card_declined"


@pytest.mark.parametrize(
    ("number", "code"),
    [("4242424242424241", "incorrect_number"), ("4012888888881881", "card_declined")],
)
async def test_only_test_cards_are_accepted(books: Books, number: str, code: str) -> None:
    card = {"type": "card", "card[number]": number, "card[exp_month]": 1, "card[exp_year]": 2040}
    error = await books.post("/v1/payment_methods", card, expect=402)
    assert (error["code"], number in str(error)) == (code, False)


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"amount": "ten"}, "parameter_invalid_integer", "amount"),
        ({"amount": 10}, "amount_too_small", "amount"),
        ({"amount": 10**9}, "amount_too_large", "amount"),
        ({"currency": "xyz"}, None, "currency"),
        ({"customer": "cus_none"}, "resource_missing", "customer"),
        ({"payment_method": "pm_none"}, "resource_missing", "payment_method"),
        ({"confirm": "perhaps"}, None, "confirm"),
        ({"expand[]": "nothing"}, None, "expand"),
    ],
)
async def test_a_wrong_parameter_is_named(
    books: Books, changes: dict[str, str | int], code: str | None, param: str
) -> None:
    fields = {"amount": 500, "currency": "pln"} | changes
    error = await books.post(INTENTS, fields, expect=400)
    assert (error["type"], error.get("code"), error["param"]) == (
        *("invalid_request_error", code),
        param,
    )
    assert (await books.get(INTENTS))["data"] == [], "a refused request changes nothing"


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/v1/transfers", {"amount": 1}),
        ("POST", INTENTS, {"amount": 500, "currency": "pln", "transfer_data[destination]": "a"}),
        ("POST", "/v1/payment_intents/pi_1/capture", {}),
        ("GET", "/v1/payment_intents/search", {"query": "amount>1"}),
        ("GET", "/v1/subscriptions", {}),
        ("DELETE", "/v1/refunds/re_1", {}),
        ("POST", "/v2/core/accounts", {}),
    ],
)
async def test_what_it_does_not_do_is_answered_with_501(
    books: Books, method: str, path: str, fields: dict[str, Any]
) -> None:
    error = await books.send(method, path, fields, expect=501)
    assert "does not support" in error["message"]


async def test_an_intent_ends_once(books: Books) -> None:
    paid = await books.pay()
    for action in ("confirm", "cancel"):
        error = await books.post(f"{INTENTS}/{paid['id']}/{action}", expect=400)
        assert error["code"] == "payment_intent_unexpected_state"
        assert error["payment_intent"]["status"] == "succeeded"
    unpaid = await books.post(INTENTS, {"amount": 500, "currency": "pln"})
    error = await books.post(f"{INTENTS}/{unpaid['id']}/confirm", expect=400)
    assert "missing a payment method" in error["message"]
    await books.post(f"{INTENTS}/{unpaid['id']}", {"amount": 700, "metadata[a]": "1"})
    canceled = await books.post(f"{INTENTS}/{unpaid['id']}/cancel")
    assert (canceled["status"], canceled["amount"]) == ("canceled", 700)
    assert canceled["metadata"] == {"a": "1"}
    too_much = {"payment_intent": paid["id"], "amount": paid["amount"] + 1}
    assert (await books.post("/v1/refunds", too_much, expect=400))["param"] == "amount"
    await books.post("/v1/refunds", {"payment_intent": unpaid["id"]}, expect=400)


async def test_keys_are_required_and_a_browsers_key_does_little(books: Books) -> None:
    intent = await books.pay(confirm="false", payment_method="pm_card_visa")
    path = f"{INTENTS}/{intent['id']}"
    anonymous = httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(Store(":memory:"))), base_url="http://c.test"
    )
    async with anonymous:
        for headers in ({}, {"Authorization": "Bearer sk_live_1"}, {"Authorization": "Basic ?"}):
            answer = await anonymous.get("/v1/balance", headers=headers)
            assert answer.status_code == 401
    books.client.auth = ("pk_test_browser", "")
    await books.get("/v1/balance", expect=401)
    assert (await books.get(path, expect=400))["param"] == "client_secret"
    secret = {"client_secret": intent["client_secret"]}
    assert (await books.get(path, secret))["id"] == intent["id"]
    await books.post(f"{path}/confirm", {"client_secret": f"{intent['id']}_secret"}, expect=400)
    assert (await books.post(f"{path}/confirm", secret))["status"] == "succeeded"


async def test_lists_have_pages(books: Books) -> None:
    made = [(await books.pay(confirm="false"))["id"] for _ in range(5)]
    newest = made[::-1]
    first = await books.get(INTENTS, {"limit": 2})
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (newest[:2], True)
    rest = await books.get(INTENTS, {"limit": 3, "starting_after": newest[1]})
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (newest[2:], False)
    before = await books.get(INTENTS, {"limit": 2, "ending_before": newest[3]})
    assert ([each["id"] for each in before["data"]], before["has_more"]) == (newest[1:3], True)
    assert (await books.get(INTENTS, {"created[lt]": 1}))["data"] == []
    assert len((await books.get(INTENTS, {"created[gte]": 1}))["data"]) == 5
    await books.get(INTENTS, {"limit": 101}, expect=400)


async def test_our_own_client_finds_all_that_it_needs(books: Books) -> None:
    settings = StripeSettings(
        api_base="http://cards.test",
        api_key=SecretStr("sk_test_1"),
        webhook_secret=SecretStr("whsec_1"),
    )
    gateway = StripeGateway(settings, books.client._transport)
    order = ChargeOrder(INSTALLATION_ACCOUNT, 1, 2, 3, Decimal("399.99"), "PLN", "Ten sessions")
    prepared = await gateway.prepare(order, SecretStr("tok_visa"))
    assert (
        await gateway.confirm(INSTALLATION_ACCOUNT, prepared.gateway_id)
    ).outcome is PaymentOutcome.SUCCEEDED
    refund = RefundOrder(INSTALLATION_ACCOUNT, 9, Decimal("100.00"), "PLN")
    report = await gateway.refund(prepared.gateway_id, refund)
    assert await gateway.refund(prepared.gateway_id, refund) == report
    assert await gateway.refunds_of(INSTALLATION_ACCOUNT, prepared.gateway_id) == [report]
    assert (await gateway.look_up(INSTALLATION_ACCOUNT, prepared.gateway_id)).captured == Decimal(
        "399.99"
    )


def test_no_operation_of_tests_has_a_path_of_stripe() -> None:
    roots = {operation.path.split("/")[1] for operation in OPERATIONS}
    assert roots == {"v1", "oauth", "_test"}
