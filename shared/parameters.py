"""Parameters of queries and forms: bounded before they are taken apart, known, each once."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from shared.errors import Invalid
from shared.media_types import FORM, require_small

MAX_PARAMETERS = 100
"""At most so many in a query or a form: the routes know 9 at most, and an OAuth2 client's form has
7 of RFC 6749 and a few of its own."""


async def require_few(request: Request, media_type: str | None) -> None:
    """Raise Invalid when the query, or the body of a route that reads a form, has too many,
    and BodyTooLarge for a form of too many bytes."""
    _check_number("query", request.scope["query_string"].count(b"&"))
    if media_type == FORM:
        body = await request.body()
        _check_number("body", body.count(b"&"))
        require_small(body)


def _check_number(field: str, separators: int) -> None:
    if separators >= MAX_PARAMETERS:
        raise Invalid(field, f"must have at most {MAX_PARAMETERS} parameters")


def require_known(request: Request, known: frozenset[str]) -> None:
    """Refuse a query with parameters that a path does not take, or with one of them twice.

    A filter that is passed over for its spelling would let everything through. Raises
    RequestValidationError.
    """
    if not request.scope["query_string"]:
        return
    sent = Counter(name for name, _ in request.query_params.multi_items())
    takes = f"this path takes {', '.join(sorted(known)) or 'none'}"
    unknown = [
        _wrong("query", name, "unknown", f"is not a query parameter here: {takes}")
        for name in sent
        if name not in known
    ]
    _raise_if_any([*unknown, *_repeated("query", sent, known)])


async def require_once(request: Request) -> None:
    """Refuse a form that has a parameter twice (RFC 6749, section 3.2), unknown ones included.

    Raises RequestValidationError.
    """
    form = await request.form()
    sent = Counter(name for name, _ in form.multi_items())
    _raise_if_any(list(_repeated("body", sent, sent)))


def _repeated(
    place: str, sent: Mapping[str, int], among: Mapping[str, int] | frozenset[str]
) -> Iterator[dict[str, Any]]:
    for name, times in sent.items():
        if times > 1 and name in among:
            yield _wrong(place, name, "repeated", "must be given once")


def _wrong(place: str, name: str, kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": (place, name), "msg": message, "input": None}


def _raise_if_any(errors: list[dict[str, Any]]) -> None:
    if errors:
        raise RequestValidationError(errors)
