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
    problem_document,
)
from shared.outages import is_outage

log = structlog.get_logger(__name__)


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> JSONResponse:
    """Render one problem as a response."""
    body = problem_document(
        status, code, detail, path=request.url.path, request_id=request_id.get(), **extra
    )
    return JSONResponse(body, status_code=status, headers=dict(headers or {}), media_type=PROBLEM)


def problem_of(request: Request, error: AppError) -> JSONResponse:
    """Render an AppError."""
    extra = _extra_of(error) if isinstance(error, Invalid) else {}
    return problem(
        request, error.status, error.code(), error.detail, headers=error.headers, **extra
    )


def _extra_of(error: Invalid) -> dict[str, Any]:
    return {"errors": error.errors, "error_count": len(error.errors)}


def _field(location: tuple[int | str, ...]) -> str:
    """Name a field as the client wrote it: without FastAPI's leading `body`, `query` or `path`."""
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _message(text: str) -> str:
    """Say what is wrong without the validator's own prefix."""
    return text.removeprefix("Value error, ")


def validation_problem(request: Request, error: RequestValidationError) -> JSONResponse:
    """Say which fields are wrong; never repeat what was sent, it may be a password."""
    # `PUT /vouchers/my` is no change of a voucher with the id `my`.
    if refused := method_not_offered(request):
        return refused
    wrong = error.errors()
    fields = [
        field_error(_field(item["loc"]), _message(item["msg"])) for item in wrong[:MOST_ERRORS]
    ]
    summary = "; ".join(f"{item['field']}: {item['message']}" for item in fields[:3])
    if len(wrong) > 3:
        summary += f"; and {len(wrong) - 3} more"
    return problem(request, 422, INVALID_REQUEST, summary, errors=fields, error_count=len(wrong))


def documented_operations(app: FastAPI, path: str) -> dict[str, Any]:
    """Return what the document says of a path; of two that fit, the more literal counts."""
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    fitting = [template for template in paths if _fits(template, path)]
    if not fitting:
        return {}
    return paths[min(fitting, key=lambda template: template.count("{"))]


@lru_cache(maxsize=1024)
def _pattern_of(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(template)))


def _fits(template: str, path: str) -> bool:
    return _pattern_of(template).fullmatch(path) is not None


def method_not_offered(request: Request) -> JSONResponse | None:
    """Answer 405 with every method that the path has, when the request's is not among them.

    The framework knows one route at a time, and names its methods alone in `Allow`.
    """
    methods = {method.upper() for method in documented_operations(request.app, request.url.path)}
    methods |= {"HEAD"} if "GET" in methods else set()
    if not methods or request.method in methods:
        return None
    headers = {"Allow": ", ".join(sorted(methods))}
    return problem(request, 405, "method_not_allowed", "Method Not Allowed", headers=headers)


def http_problem(request: Request, error: HTTPException) -> JSONResponse:
    """Render what the framework itself refuses: unknown paths, methods, broken bodies."""
    if error.status_code == 405 and (refused := method_not_offered(request)):
        return refused
    code = HTTPStatus(error.status_code).name.lower()
    return problem(request, error.status_code, code, str(error.detail), headers=error.headers)


def unexpected_problem(request: Request, error: Exception) -> JSONResponse:
    """Answer 500 without a word about the cause, which goes to the log alone; 503 when the cause
    is a database that is away, for then the same request may be answered in a moment."""
    if is_outage(error):
        log.warning("surroundings_failed", cause=repr(error), path=request.url.path)
        return problem_of(request, ServiceUnavailable("Something we need is away; try again."))
    log.error("request_failed", exc_info=error, path=request.url.path)
    return problem(request, 500, "internal_error", "Something went wrong on our side.")


class UnexpectedErrors:
    """Pure ASGI middleware: what nobody foresaw is a 500 with the request's id.

    A client that disconnects in the middle of its body is not an error: the access log says 499,
    and no answer is sent.

    The framework's own place for this lies outside every middleware, where the id is forgotten.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, send_noting_start)
        except ClientDisconnect:
            if not started:
                await Response(status_code=CLIENT_CLOSED)(scope, receive, send)
        except Exception as error:
            if started:
                raise
            response = unexpected_problem(Request(scope), error)
            await response(scope, receive, send)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem+json answer."""

    async def app_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, AppError)
        return problem_of(request, error)

    async def stale(request: Request, _error: Exception) -> JSONResponse:
        return problem_of(
            request, Conflict("It was changed by somebody else meanwhile; try again.")
        )

    async def exhausted(request: Request, _error: Exception) -> JSONResponse:
        return problem_of(request, ServiceUnavailable("Too much is asked at once; try again."))

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
