"""Parameters of queries and forms: bounded before they are parsed, known, each once."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from shared.errors import Invalid
from shared.media_types import FORM, require_small

MAX_PARAMETERS = 100
"""The largest number in a query or a form. Routes have at most 9; an OAuth2 client's form has the 7
of RFC 6749 and a few of its own."""


async def require_few(request: Request, media_type: str | None) -> None:
    """Raise Invalid for too many parameters in the query, or in the body of a route with a form.

    Raises BodyTooLarge for a form of too many bytes.
    """
    _check_number("query", request.scope["query_string"].count(b"&"))
    if media_type == FORM:
        body = await request.body()
        _check_number("body", body.count(b"&"))
        require_small(body)


def _check_number(field: str, separators: int) -> None:
    if separators >= MAX_PARAMETERS:
        raise Invalid(field, f"must have at most {MAX_PARAMETERS} parameters")


def require_known(request: Request, known: frozenset[str]) -> None:
    """Raise RequestValidationError for an unknown or a repeated query parameter.

    If a misspelled filter were ignored, the response would have all rows.
    """
    if not request.scope["query_string"]:
        return
    counts = Counter(name for name, _ in request.query_params.multi_items())
    takes = f"this path takes {', '.join(sorted(known)) or 'none'}"
    unknown = [
        _wrong("query", name, "unknown", f"is not a query parameter here: {takes}")
        for name in counts
        if name not in known
    ]
    _raise_if_any([*unknown, *_repeated("query", counts, known)])


async def require_once(request: Request) -> None:
    """Raise RequestValidationError for a repeated parameter of a form (RFC 6749, section 3.2).

    That includes unknown ones.
    """
    form = await request.form()
    counts = Counter(name for name, _ in form.multi_items())
    _raise_if_any(list(_repeated("body", counts, counts)))


def _repeated(
    place: str, counts: Mapping[str, int], among: Mapping[str, int] | frozenset[str]
) -> Iterator[dict[str, Any]]:
    for name, times in counts.items():
        if times > 1 and name in among:
            yield _wrong(place, name, "repeated", "must be given once")


def _wrong(place: str, name: str, kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": (place, name), "msg": message, "input": None}


def _raise_if_any(errors: list[dict[str, Any]]) -> None:
    if errors:
        raise RequestValidationError(errors)
