"""Parameters of queries and forms: bounded before they are taken apart."""

from fastapi import Request

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
