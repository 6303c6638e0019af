"""Error responses: every error of an application becomes one problem document (RFC 9457)."""

import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.context import request_id
from shared.errors import (
    CLIENT_CLOSED,
    INVALID_REQUEST,
    MOST_ERRORS,
    PROBLEM,
    AppError,
    Conflict,
    Invalid,
    ServiceUnavailable,
    field_error,
    field_sentence,
    problem_document,
)
from shared.outages import is_outage
from shared.validation import rule_of

log = structlog.get_logger(__name__)

_MOST_SENTENCES = 3
"""At most this many wrong fields are described in `detail`."""

_FRAMEWORK_DETAILS = {
    HTTPStatus.NOT_FOUND: "There is nothing at this path. Check the address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This path does not offer this method. Use another one.",
}


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> JSONResponse:
    """Return the response with a problem document."""
    document = problem_document(
        status, code, detail, path=request.url.path, request_id=request_id.get(), **extra
    )
    return JSONResponse(
        document, status_code=status, headers=dict(headers or {}), media_type=PROBLEM
    )


def problem_of(request: Request, error: AppError) -> JSONResponse:
    """Return the response to a request that ended with an AppError."""
    extra = dict(error.members)
    if isinstance(error, Invalid):
        extra |= {"errors": error.errors, "error_count": len(error.errors)}
    return problem(
        request, error.status, error.code(), error.detail, headers=error.headers, **extra
    )


def error_of(item: Mapping[str, Any]) -> dict[str, str]:
    """Return the entry of `errors` for one of the validator's errors.

    A field is named as the client wrote it: without FastAPI's leading `body`, `query` or `path`.
    """
    place = item["loc"]
    field = ".".join(str(part) for part in place[1:]) or str(place[0])
    return field_error(field, rule_of(item["type"], item["msg"]))


def validation_problem(request: Request, error: RequestValidationError) -> JSONResponse:
    """Return the response that names the wrong fields.

    It never contains a value of the request, which may be a password.
    """
    # `PUT /vouchers/my` is no change of a voucher with the id `my`.
    if response := method_not_offered(request):
        return response
    items = error.errors()
    errors = [error_of(item) for item in items[:MOST_ERRORS]]
    sentences = [field_sentence(each) for each in errors[:_MOST_SENTENCES]]
    if (more := len(items) - _MOST_SENTENCES) > 0:
        sentences.append(f"{more} more {'field is' if more == 1 else 'fields are'} not valid.")
    return problem(
        request,
        422,
        INVALID_REQUEST,
        " ".join(sentences),
        errors=errors,
        error_count=len(items),
    )


def documented_operations(app: FastAPI, path: str) -> dict[str, Any]:
    """Return the operations of a path by method, as the OpenAPI document describes them.

    Of two templates that match the path, the one with fewer parameters counts.
    """
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    matches = [template for template in paths if pattern_of(template).fullmatch(path)]
    if not matches:
        return {}
    return paths[min(matches, key=lambda template: template.count("{"))]


@lru_cache(maxsize=1024)
def pattern_of(template: str) -> re.Pattern[str]:
    """Return the pattern of the paths that match a route's template."""
    return re.compile(re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(template)))


def method_not_offered(request: Request) -> JSONResponse | None:
    """Return a 405 response when the path is offered with other methods only, else None.

    Its header `Allow` has every method of the path; the framework would name those of one route.
    """
    methods = {method.upper() for method in documented_operations(request.app, request.url.path)}
    methods |= {"HEAD"} if "GET" in methods else set()
    if not methods or request.method in methods:
        return None
    allow = ", ".join(sorted(methods))
    detail = f"This path does not offer {request.method}. Use one of its methods: {allow}."
    return problem(request, 405, "method_not_allowed", detail, headers={"Allow": allow})


def http_problem(request: Request, error: HTTPException) -> JSONResponse:
    """Return the response to what the framework refuses: unknown paths, methods, broken bodies."""
    if error.status_code == 405 and (response := method_not_offered(request)):
        return response
    status = HTTPStatus(error.status_code)
    detail = _FRAMEWORK_DETAILS.get(status, f"{str(error.detail).rstrip('.')}.")
    return problem(request, status, status.name.lower(), detail, headers=error.headers)


def unexpected_problem(request: Request, error: Exception) -> JSONResponse:
    """Return a 500 response without the cause, which is logged.

    While the database is away it is 503: the same request may succeed in a moment.
    """
    # Not the path: that of a calendar feed contains a token.
    route = getattr(request.scope.get("route"), "path", "unmatched")
    if is_outage(error):
        log.warning("surroundings_failed", cause=repr(error), route=route)
        return problem_of(request, ServiceUnavailable())
    log.error("request_failed", exc_info=error, route=route)
    detail = "An internal error occurred. Report it with the request id if it occurs again."
    return problem(request, 500, "internal_error", detail)


class UnexpectedErrors:
    """Pure ASGI middleware: an error without a handler becomes a 500 with the request's id.

    A client that disconnects in the middle of its body is not an error: no response is sent, and
    the access log has 499. The framework's own handler runs outside of every middleware, where the
    request's id is unknown.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_and_record_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, send_and_record_start)
        except ClientDisconnect:
            if not started:
                await Response(status_code=CLIENT_CLOSED)(scope, receive, send)
        except Exception as error:
            if started:
                raise
            response = unexpected_problem(Request(scope), error)
            await response(scope, receive, send)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of the application a response with a problem document."""

    async def app_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, AppError)
        return problem_of(request, error)

    async def stale(request: Request, _error: Exception) -> JSONResponse:
        detail = "Another request changed this at the same time. Try again."
        return problem_of(request, Conflict(detail))

    async def exhausted(request: Request, _error: Exception) -> JSONResponse:
        detail = "There are too many requests at the moment. Try again in a few seconds."
        return problem_of(request, ServiceUnavailable(detail))

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return validation_problem(request, error)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return http_problem(request, error)

    app.add_exception_handler(AppError, app_error)
    app.add_exception_handler(StaleDataError, stale)
    app.add_exception_handler(PoolTimeout, exhausted)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_middleware(UnexpectedErrors)
