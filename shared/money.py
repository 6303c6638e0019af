"""Money on the wire: a JSON number with two decimals, exact on the way in and out."""

import json
import re
import secrets
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, PlainSerializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
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


_TEXT = r"[0-9]{1,10}(\.[0-9]{1,2})?"
_WRITTEN = re.compile(_TEXT)


def _written(value: Any) -> Any:
    """Refuse what is neither a number nor the one text for it; pydantic would read "1_0"."""
    if isinstance(value, str):
        if _WRITTEN.fullmatch(value):
            return Decimal(value)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return value
    raise ValueError("must be an amount such as 399.99: a number, or text of digits")


class _AmountSchema:
    """Documents an amount: a number, or in a request the text of one as well."""

    def __init__(self, bounds: Mapping[str, float]) -> None:
        self._bounds = bounds

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        number: JsonSchemaValue = {"type": "number", "examples": [399.99], **self._bounds}
        if handler.mode == "serialization":
            return number
        text = {"type": "string", "pattern": f"^{_TEXT}$", "examples": ["399.99"]}
        return {"anyOf": [number, text]}


def amount_schema(**bounds: float) -> _AmountSchema:
    """Return how an amount is documented, with bounds such as `minimum=0`."""
    return _AmountSchema(bounds)


Amount = Annotated[
    Decimal,
    Field(max_digits=12, decimal_places=2, strict=False),
    BeforeValidator(_written),
]
"""An amount as another service writes it: a number, or in events the text of one."""

Money = Annotated[
    Amount,
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
