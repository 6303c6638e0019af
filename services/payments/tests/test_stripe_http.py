"""The short way to Stripe has the results of its library."""

import asyncio
from typing import Any, cast
from urllib.parse import parse_qs

import httpx
import pytest
import stripe
from stripe import RequestOptions, StripeClient, StripeError
from stripe.params import PaymentIntentCreateParams

from services.payments.gateways.stripe_http import StripeForms, StripeHttp

pytestmark = pytest.mark.anyio

BASE = "https://stripe.test"


def both_ways(transport: httpx.AsyncBaseTransport) -> tuple[StripeClient, StripeForms]:
    """Return the library and the short way over one network."""
    http = StripeHttp(transport)
    library = StripeClient(
        "sk_test_1", base_addresses={"api": BASE}, http_client=http, max_network_retries=0
    )
    return library, StripeForms(http.transport, BASE, "sk_test_1", "2026-07-29.dahlia")


async def error_of(call: Any) -> StripeError:
    with pytest.raises(StripeError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 429, 500, 503])
@pytest.mark.parametrize(
    "error",
    [
        {"type": "invalid_request_error", "code": "resource_missing", "param": "payment_method"},
        {"type": "idempotency_error", "message": "Keys are for one set of parameters."},
        {"type": "card_error", "code": "card_declined", "message": "Your card was declined."},
        {"code": "rate_limit", "message": "Slower."},
        {},
    ],
)
async def test_errors_are_those_of_the_library(status: int, error: dict[str, str]) -> None:
    answers = httpx.MockTransport(lambda _: httpx.Response(status, json={"error": error}))
    library, forms = both_ways(answers)
    usual = await error_of(library.v1.payment_intents.confirm_async("pi_1"))
    short = await error_of(forms.post("/v1/payment_intents/pi_1/confirm", {}, account=None))
    assert type(short) is type(usual)
    assert (short.http_status, short.code) == (usual.http_status, usual.code)
    assert short.user_message == usual.user_message
    if status == 403:
        assert short.error is not None
        assert usual.error is not None
        assert short.error.code == usual.error.code


@pytest.mark.parametrize("status", [200, 400, 404, 502])
@pytest.mark.parametrize("content", [b"", b"<html>", b'"text"', b"[]", b'{"message": "no route"}'])
async def test_what_is_no_answer_of_stripe_is_an_error(status: int, content: bytes) -> None:
    if status == 200 and content.startswith(b"{"):
        return
    answers = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    _, forms = both_ways(answers)
    error = await error_of(forms.post("/v1/payment_intents/pi_1/confirm", {}, account=None))
    assert (type(error), error.http_status) == (stripe.APIError, status)
    assert error.user_message is None, "nobody is shown the page of a proxy"


@pytest.mark.parametrize("lost", [httpx.ConnectError("x"), httpx.ReadTimeout("x"), TimeoutError()])
async def test_no_answer_is_the_same_error(lost: Exception) -> None:
    def lose(_: httpx.Request) -> httpx.Response:
        raise lost

    library, forms = both_ways(httpx.MockTransport(lose))
    usual = await error_of(library.v1.payment_intents.confirm_async("pi_1"))
    short = await error_of(forms.post("/v1/payment_intents/pi_1/confirm", {}, account=None))
    assert type(short) is type(usual) is stripe.APIConnectionError


async def test_a_form_is_sent_as_the_library_sends_it() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"id": "pi_1", "object": "payment_intent"})

    library, forms = both_ways(httpx.MockTransport(answer))
    intent = {
        "amount": 5,
        "currency": "pln",
        "payment_method_types": ["card"],
        "metadata": {"description": "Zażółć & co = 1+1"},
    }
    typed = cast(PaymentIntentCreateParams, intent)
    options: RequestOptions = {"idempotency_key": "key", "stripe_account": "acct_1"}
    await library.v1.payment_intents.create_async(typed, options)
    form = {
        "amount": "5",
        "currency": "pln",
        "payment_method_types[0]": "card",
        "metadata[description]": "Zażółć & co = 1+1",
    }
    made = await forms.post("/v1/payment_intents", form, account="acct_1", idempotency_key="key")
    assert made == {"id": "pi_1", "object": "payment_intent"}
    usual, short = requests
    assert short.url == usual.url
    assert parse_qs(short.content.decode()) == parse_qs(usual.content.decode())
    for name in ("authorization", "content-type", "idempotency-key", "stripe-account"):
        assert short.headers[name] == usual.headers[name]


async def test_a_server_that_never_answers_is_given_up() -> None:
    class Endless(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    forms = StripeForms(Endless(), BASE, "sk_test_1", "2026-07-29.dahlia", seconds=0.05)
    error = await error_of(forms.post("/v1/payment_intents/pi_1/confirm", {}, account=None))
    assert isinstance(error, stripe.APIConnectionError)
