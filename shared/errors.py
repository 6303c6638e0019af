"""Errors that have an HTTP status, and the document that describes one to a client (RFC 9457)."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

PROBLEM = "application/problem+json"
INVALID_REQUEST = "invalid_request"
CLIENT_CLOSED = 499
"""nginx's status for a client that disconnected before the response; in logs and metrics only."""

MOST_ERRORS = 20
"""At most this many wrong fields are described in a response; `error_count` counts all of them."""

RECENT_SECONDS = 900
"""How long after a sign-in dangerous actions need no other one."""

# Of what a client wrote: with 20 of both a response stays under 64 KiB.
_LONGEST_FIELD = 100
_LONGEST_MESSAGE = 300
_LONGEST_PATH = 2_000


class AppError(Exception):
    """An error that is reported to the client; its `code` is its class name in snake case.

    The first paragraph of a subclass's docstring is its default `detail`. Every detail is made of
    full sentences that state what is wrong and, where the client can change it, what to do.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str | None] = None
    denies: ClassVar[bool] = False
    """Whether it is recorded in the audit trail: a caller was not authorized."""

    about_user_id: int | None = None
    """The account that a denial is about, and its organization, when no user is signed in."""
    about_organization_id: int | None = None

    members: Mapping[str, Any] = MappingProxyType({})
    """Further members of the problem document (RFC 9457, section 3.2), as JSON has them."""

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None) -> None:
        self.detail = detail or self.summary()
        self.headers = dict(headers or {})
        super().__init__(self.detail)

    @classmethod
    def code(cls) -> str:
        """Return the stable name of this kind of error, for programs."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def summary(cls) -> str:
        """Return the first paragraph of the class's docstring on one line."""
        return " ".join((cls.__doc__ or cls.code()).strip().partition("\n\n")[0].split())


class NotFound(AppError):
    """This does not exist, or you may not see it. Check the address and the id."""

    status = 404


class Unauthenticated(AppError):
    """A valid access token is needed. Sign in and send the token as `Authorization: Bearer`."""

    status = 401

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class ReauthenticationRequired(AppError):
    """This needs a sign-in of the last 15 minutes. Send your password or a code to
    /api/auth/reauthenticate, and repeat the request with the new access token.

    The challenge in the header is that of RFC 9470.
    """

    status = 401

    def __init__(self) -> None:
        challenge = f'Bearer error="insufficient_user_authentication", max_age={RECENT_SECONDS}'
        super().__init__(headers={"WWW-Authenticate": challenge})


class Forbidden(AppError):
    """Not authorized. Your role and permissions do not allow this."""

    status = 403
    denies = True

    def __init__(self, reason: str = "") -> None:
        super().__init__(f"Not authorized. {reason}" if reason else "")


class Conflict(AppError):
    """The present state does not allow this. Read it again before you repeat the request."""

    status = 409


class StaleVersion(AppError):
    """This was changed after you read it. Read it again and repeat your change."""

    status = 412


class ServiceUnavailable(AppError):
    """A part of the system is not available at the moment. Try again in a few seconds."""

    status = 503

    def __init__(self, detail: str = "", *, retry_after: int = 2) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class Invalid(AppError):
    """Some fields of the request are not valid. Correct them and send the request again.

    `message` continues a sentence that begins with the field's name: "must be later than today".
    """

    status = 422

    def __init__(self, field: str, message: str) -> None:
        error = field_error(field, message)
        super().__init__(field_sentence(error))
        self.errors = [error]

    @classmethod
    def code(cls) -> str:
        """Return the code that a schema's refusal has too."""
        return INVALID_REQUEST if cls is Invalid else super().code()


class Problem(BaseModel):
    """The problem document (RFC 9457) in the body of every error response."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    request_id: str | None


class FieldError(BaseModel):
    """A field, parameter or header of the request, and the rule that it breaks."""

    field: str
    message: str = Field(
        description="Continues a sentence that begins with the field, such as `must be true or"
        " false`; the problem's `detail` is made of full sentences"
    )


class ValidationProblem(Problem):
    """A problem document with the fields that caused it."""

    errors: Annotated[list[FieldError], Field(max_length=MOST_ERRORS)]
    error_count: int = Field(
        ge=1, description=f"How many errors there are; `errors` holds the first {MOST_ERRORS}"
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
    """Return one entry of `errors`: of bounded size, because an unknown field may have any name."""
    return {"field": printable(field, _LONGEST_FIELD), "message": message[:_LONGEST_MESSAGE]}


def field_sentence(error: Mapping[str, str]) -> str:
    """Return an entry of `errors` as a full sentence."""
    subject = "The body" if error["field"] == "body" else f"The field {error['field']}"
    return f"{subject} {error['message'].rstrip('.')}."


def printable(text: str, longest: int) -> str:
    """Return a client's text of at most `longest` characters, all of which UTF-8 can encode."""
    short = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return short.encode(errors="replace").decode()


def responses(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """Declare errors in OpenAPI: `@router.get(..., responses=responses(NotFound, Forbidden))`."""
    declarations: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        text = error.summary()
        other = declarations.get(error.status)
        schema = ValidationProblem if error is Invalid else Problem
        declarations[error.status] = {
            "description": f"{other['description']} {text}" if other else text,
            "content": {PROBLEM: {"schema": {"$ref": f"#/components/schemas/{schema.__name__}"}}},
            **_HEADERS.get(error.status, {}),
        }
    return declarations


_HEADERS: dict[int, dict[str, Any]] = {
    401: {"headers": {"WWW-Authenticate": {"schema": {"type": "string"}}}},
    429: {"headers": {"Retry-After": {"schema": {"type": "integer"}}}},
    503: {"headers": {"Retry-After": {"schema": {"type": "integer"}}}},
}
