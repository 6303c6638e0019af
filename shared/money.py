"""Money in requests and responses: a JSON number with two decimals, without any rounding."""

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
# an amount is serialized as a string between random marks, and the quotes and marks are removed
# before the body is sent.
_OPENING, _CLOSING = secrets.token_hex(16), secrets.token_hex(16)
_BEFORE, _BEHIND = f'"{_OPENING}'.encode(), f'{_CLOSING}"'.encode()


def _marked(amount: Decimal) -> str:
    return f"{_OPENING}{amount + 0:.2f}{_CLOSING}"  # + 0: no minus zero


def without_marks(body: bytes) -> bytes:
    """Return JSON in which the marked amounts are numbers."""
    return body.replace(_BEFORE, b"").replace(_BEHIND, b"")


CENT = Decimal("0.01")
"""The precision of amounts."""

_AMOUNT = r"[0-9]{1,10}(\.[0-9]{1,2})?"
_AMOUNT_RE = re.compile(_AMOUNT)


def check_amount(value: Any) -> Any:
    """Accept a number or a text of digits; pydantic would accept "1_0". Raises ValueError."""
    if isinstance(value, str):
        if _AMOUNT_RE.fullmatch(value):
            return Decimal(value)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return value
    raise ValueError("must be an amount such as 399.99: a number, or text of digits")


class _AmountSchema:
    """The schema of an amount: a number, or in a request also a text."""

    def __init__(self, bounds: Mapping[str, float]) -> None:
        self._bounds = bounds

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        number: JsonSchemaValue = {"type": "number", "examples": [399.99], **self._bounds}
        if handler.mode == "serialization":
            return number
        text = {"type": "string", "pattern": f"^{_AMOUNT}$", "examples": ["399.99"]}
        return {"anyOf": [number, text]}


def amount_schema(**bounds: float) -> _AmountSchema:
    """Return the schema of an amount, with bounds such as `minimum=0`."""
    return _AmountSchema(bounds)


Amount = Annotated[
    Decimal,
    Field(max_digits=12, decimal_places=2, strict=False),
    BeforeValidator(check_amount),
]
"""An amount from another service: a number, or in events a text."""

Money = Annotated[
    Amount,
    PlainSerializer(_marked, when_used="json", return_type=str),
    amount_schema(),
]
"""An amount in the currency's major unit, at most 12 digits, 2 of them decimals."""


def write_amounts(response: Response) -> None:
    """Make JSON numbers of the marked amounts in a response's body."""
    body = bytes(getattr(response, "body", b""))
    if _BEFORE in body:
        response.body = without_marks(body)
        response.headers["content-length"] = str(len(response.body))


def dump_exactly(body: Any) -> bytes:
    """Return JSON in which amounts are numbers with two decimals, for calls between services."""
    return without_marks(json.dumps(body, default=mark_decimal).encode())


def mark_decimal(value: Any) -> str:
    """Return a Decimal as a marked text. Raises TypeError for any other value."""
    if isinstance(value, Decimal):
        return _marked(value)
    raise TypeError(f"{type(value).__name__} is not serializable")
