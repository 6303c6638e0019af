"""The answers that the gateway itself may give on any path, for the OpenAPI document."""

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
    """The components that the answers refer to."""
    errors: tuple[type[AppError], ...] = (Unauthenticated, *_ALWAYS, *_WITH_A_BODY)
    return {
        "schemas": {"Problem": Problem.model_json_schema()},
        "headers": {REQUEST_ID_HEADER: HEADERS[REQUEST_ID_HEADER]},
        "responses": {error.__name__: _response(error) for error in errors},
    }


def _response(error: type[AppError]) -> OpenAPIObject:
    described: OpenAPIObject = {
        "description": error.summary(),
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if error.status in (429, 503):
        described["headers"] = {"Retry-After": _RETRY_AFTER}
    if error.status == 401:
        described["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return with_headers(described, REQUEST_ID_HEADER)


def with_gateway_errors(operation: OpenAPIObject, route: Route) -> OpenAPIObject:
    """An operation with what the gateway may answer in the service's place.

    Where the service documents the same status itself, its description stays: the shape is one.
    """
    errors = _ALWAYS
    if route.access is Access.PROTECTED:
        errors += (Unauthenticated,)
    if "requestBody" in operation:
        errors += _WITH_A_BODY
    refusals = {
        str(error.status): {"$ref": f"#/components/responses/{error.__name__}"} for error in errors
    }
    return {**operation, "responses": refusals | operation.get("responses", {})}
