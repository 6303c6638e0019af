"""Calls of Stripe's API: the library's network, and a shorter way for the two calls of a charge.

The library takes about a millisecond of CPU for a call, most of it for headers that describe this
machine and for objects that nobody reads. The answers and errors of both ways are the same.
"""

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
import stripe
from pydantic_core import from_json
from stripe import RequestOptions, StripeError

from services.payments.gateways.protocol import GatewayAccount
from shared.transport import PooledTransport

CALL_SECONDS = 5.0
"""Bound of one call; a charge makes four at most, and its caller waits 25 seconds."""


class StripeHttp(stripe.HTTPClient):
    """The library's network: a client of httpx's, whose transport tests may replace."""

    name = "httpx"

    def __init__(self, transport: httpx.AsyncBaseTransport | None) -> None:
        super().__init__()
        self.transport = transport or PooledTransport()
        self._client = httpx.AsyncClient(transport=self.transport, timeout=CALL_SECONDS)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request; raises the library's APIConnectionError without an answer."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await self._client.request(
                    method, url, headers=dict(headers), content=post_data
                )
        except (httpx.HTTPError, TimeoutError) as error:
            raise _without_answer(error) from error
        return answer.content, answer.status_code, answer.headers

    async def close_async(self) -> None:
        """Close every connection."""
        await self._client.aclose()


class StripeForms:
    """Sends forms to Stripe and returns its JSON as it is; `seconds` bounds a call."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        base: str,
        key: str,
        version: str,
        *,
        seconds: float = CALL_SECONDS,
    ) -> None:
        self._transport = transport
        self._seconds = seconds
        self._extensions = {"timeout": httpx.Timeout(seconds).as_dict()}
        self._base = base
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Stripe-Version": version,
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": "Carnet",
        }

    async def post(
        self,
        path: str,
        form: Mapping[str, str],
        *,
        account: str | None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Return the object that a POST leads to; raises the error that the library would raise.

        `account` is the connected account whose books it concerns, None for the key's own.
        """
        headers = self._headers
        if account is not None:
            headers = headers | {"Stripe-Account": account}
        if idempotency_key is not None:
            headers = headers | {"Idempotency-Key": idempotency_key}
        request = httpx.Request(
            "POST",
            self._base + path,
            headers=headers,
            content=urlencode(form).encode(),
            extensions=self._extensions,
        )
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._transport.handle_async_request(request)
                content = await answer.aread()
        except (httpx.HTTPError, TimeoutError) as error:
            raise _without_answer(error) from error
        return object_of(answer.status_code, content)


def options_of(account: GatewayAccount, key: str | None = None) -> RequestOptions:
    """Return the options of a call that concerns the books of an account."""
    options: RequestOptions = {} if account.id is None else {"stripe_account": account.id}
    return options if key is None else {**options, "idempotency_key": key}


def object_of(status: int, content: bytes) -> dict[str, Any]:
    """Return the object of an answer; raises StripeError for every other answer."""
    try:
        answer = from_json(content)
    except ValueError:
        answer = None
    if 200 <= status < 300 and isinstance(answer, dict):
        return answer
    raise error_of(status, answer)


_ERRORS: Mapping[int, type[StripeError]] = {
    401: stripe.AuthenticationError,
    403: stripe.PermissionError,
    429: stripe.RateLimitError,
}


def error_of(status: int, answer: Any) -> StripeError:
    """Return the error that the library raises for an answer: https://docs.stripe.com/api/errors.

    Only `user_message`, `code` and `http_status` are set. `error` is set where the library has the
    code there.
    """
    details = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(details, dict):
        return stripe.APIError(http_status=status)
    message, code = details.get("message"), details.get("code")
    if status == 400 and code == "rate_limit":
        return stripe.RateLimitError(message, http_status=status)
    if status in (400, 404) and details.get("type") == "idempotency_error":
        return stripe.IdempotencyError(message, http_status=status)
    if status in (400, 402, 404):
        kind = stripe.CardError if status == 402 else stripe.InvalidRequestError
        return kind(message, details.get("param"), code, http_status=status)
    # The library has the code of these errors in `error` alone, which it makes of the body.
    return _ERRORS.get(status, stripe.APIError)(message, http_status=status, json_body=answer)


def _without_answer(error: Exception) -> StripeError:
    cause = type(error).__name__
    return stripe.APIConnectionError(cause)  # type: ignore[no-untyped-call]
