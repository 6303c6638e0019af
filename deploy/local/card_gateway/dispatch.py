"""From a request to its response: key, account, parameters, idempotency, transaction."""

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from deploy.local.card_gateway.accounts import require_access
from deploy.local.card_gateway.call import PLATFORM, Call, new_id, public
from deploy.local.card_gateway.errors import StripeError, invalid, not_implemented
from deploy.local.card_gateway.expansion import expanded
from deploy.local.card_gateway.forms import parse_form
from deploy.local.card_gateway.idempotency import find_response, fingerprint, store_response
from deploy.local.card_gateway.parameters import read_parameters
from deploy.local.card_gateway.routes import CONTROL, Operation, find_operation
from deploy.local.card_gateway.store import Store

_SECRET_KEYS = ("sk_test_", "rk_test_")
_FORM = "application/x-www-form-urlencoded"
_NO_KEY = (
    "You did not provide an API key. You need to provide your API key in the Authorization header, "
    "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
)


@dataclass(frozen=True)
class ApiRequest:
    """An HTTP request. The names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    base_url: str


@dataclass(frozen=True)
class ApiResponse:
    """An HTTP response, whose body is JSON."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def respond(store: Store, request: ApiRequest, *, webhook_delay: float = 0.0) -> ApiResponse:
    """Answer a request of Stripe's API, or of `/_test/…`."""
    request_id = new_id("req")
    try:
        response = _answer(store, request, request_id, webhook_delay)
    except StripeError as error:
        response = ApiResponse(error.status, _encoded(error.body()))
    response.headers["Request-Id"] = request_id
    return response


def _answer(
    store: Store, request: ApiRequest, request_id: str, webhook_delay: float
) -> ApiResponse:
    match = find_operation(request.method, request.path)
    if match is None:
        raise not_implemented(f"{request.method} {request.path}")
    operation, identifier = match
    fields = _fields(request)
    is_publishable = _authenticate(request, operation, fields)
    is_post = request.method == "POST"
    call = Call(
        store=store,
        book=PLATFORM,
        now=int(time.time()),
        base_url=request.base_url,
        api_version=request.headers.get("stripe-version", "2026-07-29.dahlia"),
        request_id=request_id,
        idempotency_key=request.headers.get("idempotency-key") if is_post else None,
        is_publishable=is_publishable,
        webhook_delay=webhook_delay,
    )
    account = fields.pop("_stripe_account", None) or request.headers.get("stripe-account")
    if account and account != PLATFORM:
        call = call.for_account(_book(call, operation, account))
    return _run(call, operation, identifier, fields, request.path)


def _fields(request: ApiRequest) -> dict[str, Any]:
    """Return the parameters of the query and the form; raises StripeError for another body."""
    if not request.body:
        return parse_form(request.query)
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind != _FORM:
        raise invalid(f"Invalid request (check that your POST content type is {_FORM}).")
    try:
        text = request.body.decode()
    except UnicodeDecodeError as error:
        raise invalid("Invalid request: the form is not UTF-8.") from error
    return parse_form("&".join(filter(None, (request.query, text))))


def _authenticate(request: ApiRequest, operation: Operation, fields: dict[str, Any]) -> bool:
    """Check the key, and return whether it is a publishable one; raises StripeError 401."""
    key = fields.pop("key", None) or _key_of(request.headers.get("authorization", ""))
    if operation.path.startswith(CONTROL):
        return False
    if key.startswith(_SECRET_KEYS):
        return False
    if key.startswith("pk_test_"):
        if operation.is_public:
            return True
        message = "This API call cannot be made with a publishable API key."
        raise StripeError(401, message, code="secret_key_required")
    if not key:
        raise StripeError(401, _NO_KEY)
    message = "Invalid API Key provided. The local card gateway accepts any that begins with "
    raise StripeError(401, f"{message}sk_test_, and no key of live mode.")


def _key_of(header: str) -> str:
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _book(call: Call, operation: Operation, account: str) -> str:
    """Return the account of a request; `/_test/…` may act on one that was disconnected."""
    if operation.path.startswith(CONTROL) and call.find("account", account):
        return account
    return str(require_access(call, account)["id"])


def _run(
    call: Call, operation: Operation, identifier: str, fields: dict[str, Any], path: str
) -> ApiResponse:
    """Execute an operation once for each idempotency key."""
    request = fingerprint(operation.method, path, fields)
    if response := find_response(call, request):
        return ApiResponse(*response, {"Idempotent-Replayed": "true"})
    parameters = read_parameters(operation.parameters, fields, operation.name)
    try:
        with call.store.transaction():
            status, body = _execute(call, operation, identifier, parameters)
            store_response(call, request, status, body)
    except StripeError as error:
        status, body = error.status, _encoded(public(error.body()))
        if status < 500:
            store_response(call, request, status, body)
    headers = {"Stripe-Version": call.api_version}
    if call.idempotency_key:
        headers["Idempotency-Key"] = call.idempotency_key
    if not call.is_platform:
        headers["Stripe-Account"] = call.book
    return ApiResponse(status, body, headers)


def _execute(
    call: Call, operation: Operation, identifier: str, parameters: Any
) -> tuple[int, bytes]:
    """Return the result, or the error of a refusal that changes the books, as a declined card."""
    try:
        result = operation.handler(call, parameters, identifier)
        return 200, _encoded(public(expanded(call, result, parameters.expand)))
    except StripeError as error:
        if not error.is_recorded:
            raise
        return error.status, _encoded(public(error.body()))


def _encoded(body: dict[str, Any]) -> bytes:
    return orjson.dumps(body)
