"""Errors that have an HTTP status, and the document that describes one to a client (RFC 9457)."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

PROBLEM = "application/problem+json"
INVALID_REQUEST = "invalid_request"
CLIENT_CLOSED = 499
"""nginx's status for a client that disconnected before the response; in logs and metrics only."""

MOST_ERRORS = 20
"""At most this many wrong fields are described in a response; `error_count` counts all of them."""

# Of what a client wrote: with 20 of both a response stays under 64 KiB.
_LONGEST_FIELD = 100
_LONGEST_MESSAGE = 300
_LONGEST_PATH = 2_000


class AppError(Exception):
    """A fact that the caller must be told; the snake_case of its class name is its `code`."""

    status: ClassVar[int] = 500
    title: ClassVar[str | None] = None
    denies: ClassVar[bool] = False
    """Whether auditors must see it: somebody was refused what they are not allowed to do."""

    about_user_id: int | None = None
    """The account that a denial is about, and its organization, when nobody is signed in."""
    about_organization_id: int | None = None

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip().splitlines()[0]
        self.headers = dict(headers or {})
        super().__init__(self.detail)

    @classmethod
    def code(cls) -> str:
        """Return the stable name that clients may switch on."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


class NotFound(AppError):
    """There is no such thing, or it is not yours to see."""

    status = 404


class Unauthenticated(AppError):
    """A valid access token is needed."""

    status = 401

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(AppError):
    """Not authorized."""

    status = 403
    denies = True

    def __init__(self, reason: str = "") -> None:
        super().__init__(f"Not authorized: {reason}" if reason else "Not authorized")


class Conflict(AppError):
    """The present state does not allow this."""

    status = 409


class StaleVersion(AppError):
    """It was changed since you read it: read it again and repeat the change."""

    status = 412


class ServiceUnavailable(AppError):
    """Something this needs is not available at the moment; try again."""

    status = 503

    def __init__(self, detail: str = "", *, retry_after: int = 2) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class Invalid(AppError):
    """The request has fields that cannot be accepted."""

    status = 422

    def __init__(self, field: str, message: str) -> None:
        error = field_error(field, message)
        super().__init__(f"{error['field']}: {message}")
        self.errors = [error]

    @classmethod
    def code(cls) -> str:
        """Return the same for a refused field whoever refused it, a schema or a rule."""
        return INVALID_REQUEST if cls is Invalid else super().code()


class Problem(BaseModel):
    """RFC 9457 problem details, as every error answers."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    request_id: str | None


class FieldError(BaseModel):
    """Where in the request, and what is wrong there."""

    field: str
    message: str


class ValidationProblem(Problem):
    """A problem with the fields that caused it."""

    errors: Annotated[list[FieldError], Field(max_length=MOST_ERRORS)]
    error_count: int = Field(
        ge=1, description=f"How many are wrong; `errors` holds the first {MOST_ERRORS} of them"
    )


def problem_document(
    status: int, code: str, detail: str, *, path: str, request_id: str | None, **extra: Any
) -> dict[str, Any]:
    """Return the problem document of a response.

    `path` is the request's, or "" when the request could not be read; `extra` are further members.
    """
    return {
        "type": f"urn:carnet:problem:{code.replace('_', '-')}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": path[:_LONGEST_PATH],
        "request_id": request_id,
        **extra,
    }


def field_error(field: str, message: str) -> dict[str, str]:
    """Return one entry of `errors`: bounded, because an unknown field has any name at all."""
    return {"field": printable(field, _LONGEST_FIELD), "message": message[:_LONGEST_MESSAGE]}


def printable(text: str, longest: int) -> str:
    """Return a client's text cut to a length, and without what UTF-8 cannot encode."""
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return cut.encode(errors="replace").decode()


def responses(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """Declare errors in OpenAPI: `@router.get(..., responses=responses(NotFound, Forbidden))`."""
    declared: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        text = (error.__doc__ or error.code()).strip().splitlines()[0]
        known = declared.get(error.status)
        described = f"{known['description']} {text}" if known else text
        schema = ValidationProblem if error is Invalid else Problem
        declared[error.status] = {
            "description": described,
            "content": {PROBLEM: {"schema": {"$ref": f"#/components/schemas/{schema.__name__}"}}},
            **_HEADERS.get(error.status, {}),
        }
    return declared


_HEADERS: dict[int, dict[str, Any]] = {
    401: {"headers": {"WWW-Authenticate": {"schema": {"type": "string"}}}},
    429: {"headers": {"Retry-After": {"schema": {"type": "integer"}}}},
    503: {"headers": {"Retry-After": {"schema": {"type": "integer"}}}},
}
