"""Money on the wire: a JSON number with two decimals, exact on the way in and out."""

import json
import secrets
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, WithJsonSchema
from starlette.responses import Response

# pydantic writes a Decimal as a string, and a float would lose the second decimal of 400.00. So
# an amount leaves the serializer as a string between marks that no client can guess, and the
# quotes and marks are taken off before the body is sent.
_OPENING, _CLOSING = secrets.token_hex(16), secrets.token_hex(16)
_BEFORE, _BEHIND = f'"{_OPENING}'.encode(), f'{_CLOSING}"'.encode()


def _marked(amount: Decimal) -> str:
    return f"{_OPENING}{amount + 0:.2f}{_CLOSING}"  # + 0: minus zero is nobody's amount


def _unmarked(body: bytes) -> bytes:
    return body.replace(_BEFORE, b"").replace(_BEHIND, b"")


def amount_schema(**bounds: float) -> WithJsonSchema:
    """Return how an amount is documented, with bounds such as `minimum=0`."""
    return WithJsonSchema({"type": "number", "examples": [399.99], **bounds})


Money = Annotated[
    Decimal,
    Field(max_digits=12, decimal_places=2),
    PlainSerializer(_marked, when_used="json", return_type=str),
    amount_schema(),
]
"""An amount in the currency's major unit, at most 12 digits, 2 of them decimals."""


def write_amounts(response: Response) -> None:
    """Turn the marked amounts of a rendered body into JSON numbers."""
    body = bytes(getattr(response, "body", b""))
    if _BEFORE in body:
        response.body = _unmarked(body)
        response.headers["content-length"] = str(len(response.body))


def dump_exactly(body: Any) -> bytes:
    """Return JSON in which amounts are numbers with two decimals, for calls between services."""
    return _unmarked(json.dumps(body, default=_marked_decimal).encode())


def _marked_decimal(value: Any) -> str:
    if isinstance(value, Decimal):
        return _marked(value)
    raise TypeError(f"{type(value).__name__} does not go into JSON")
