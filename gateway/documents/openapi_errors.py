"""The errors that the gateway itself may return on any path, for the OpenAPI document."""

from typing import Any

from gateway.errors import (
    BodyTooSlow,
    HeadTooLarge,
    MalformedRequest,
    TooManyRequests,
    UpstreamFailed,
    UpstreamTimedOut,
    UpstreamUnavailable,
)
from gateway.routes import Access, Route
from shared.context import REQUEST_ID_HEADER
from shared.errors import PROBLEM, AppError, Problem, Unauthenticated
from shared.media_types import BodyTooLarge
from shared.openapi import HEADERS, with_headers

OpenAPIObject = dict[str, Any]

_ALWAYS: tuple[type[AppError], ...] = (
    MalformedRequest,
    TooManyRequests,
    HeadTooLarge,
    UpstreamFailed,
    UpstreamUnavailable,
    UpstreamTimedOut,
)
_WITH_A_BODY: tuple[type[AppError], ...] = (BodyTooSlow, BodyTooLarge)
_RETRY_AFTER = {
    "description": "Seconds until it is worth trying again.",
    "schema": {"type": "integer"},
}


def components() -> dict[str, dict[str, OpenAPIObject]]:
    """Return the components that these errors refer to."""
    errors: tuple[type[AppError], ...] = (Unauthenticated, *_ALWAYS, *_WITH_A_BODY)
    return {
        "schemas": {"Problem": Problem.model_json_schema()},
        "headers": {REQUEST_ID_HEADER: HEADERS[REQUEST_ID_HEADER]},
        "responses": {error.__name__: _response(error) for error in errors},
    }


def _response(error: type[AppError]) -> OpenAPIObject:
    response: OpenAPIObject = {
        "description": error.summary(),
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if error.status in (429, 503):
        response["headers"] = {"Retry-After": _RETRY_AFTER}
    if error.status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return with_headers(response, REQUEST_ID_HEADER)


def with_gateway_errors(operation: OpenAPIObject, route: Route) -> OpenAPIObject:
    """Return an operation with the errors that the gateway may return in its service's place.

    A status that the service documents itself retains its description: the schema is the same.
    """
    errors = _ALWAYS
    if route.access is Access.PROTECTED:
        errors += (Unauthenticated,)
    if "requestBody" in operation:
        errors += _WITH_A_BODY
    gateway_errors = {
        str(error.status): {"$ref": f"#/components/responses/{error.__name__}"} for error in errors
    }
    return {**operation, "responses": gateway_errors | operation.get("responses", {})}
