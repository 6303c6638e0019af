"""Requests with a payment card number are refused, whatever field has it.

A number that is never accepted is in no table, event or log (PCI DSS 4.0, requirement 3).
Passwords are not searched: only their hashes are stored, and one may look like a card number.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from shared.characters import typed
from shared.errors import AppError, Invalid

# ISO/IEC 7812-1: at most 19 digits; the shortest in use have 13. Issuers' numbers for payment begin
# with 22 to 69. Longer runs of digits, and groups after other groups, are account numbers; up to 15
# digits after a + are a telephone number (ITU-T E.164), and groups beside a hexadecimal digit are
# of a UUID: one in ten of such numbers has a right check digit by chance. For the same reason
# groups count only in the lengths in which cards are printed, or all of one or of two digits, and
# only with one separator throughout, or white space. Commas and semicolons separate the items of a
# list, where four-digit numbers are prices.
_AT_START = r"(?<![0-9A-Fa-f].)(?<![0-9]{2}[ .-].)"
_AT_START_OF_SHORT_GROUPS = r"(?<![0-9A-Fa-f].)(?<![0-9][\W_].)"
_ISSUER = r"(?:(?<=2)[2-7]|(?<!2)[0-9])"
_AT_END = r"(?![0-9A-Fa-f])"
_SEPARATOR = r"(?P<separator>[^\w,;]{1,3}|_)"
_SAME = "(?P=separator)"
_FOURS = "[0-9]{4}"
_PATTERNS = (
    rf"(?<![0-9+].){_ISSUER}[0-9]{{11,17}}(?![0-9])",
    rf"(?<=\+.){_ISSUER}[0-9]{{14,17}}(?![0-9])",
    *(
        pattern
        for first, later in ((_SEPARATOR, _SAME), (r"\s", r"\s"))
        for pattern in (
            rf"{_AT_START}{_ISSUER}[0-9]{{2}}{first}{_FOURS}{later}{_FOURS}{later}[0-9]{{1,4}}{_AT_END}",
            rf"{_AT_START}{_ISSUER}[0-9]{{2}}{first}(?:{_FOURS}{later}){{3}}[0-9]{{1,3}}{_AT_END}",
            rf"{_AT_START}(?<=3)[0-9]{{3}}{first}[0-9]{{6}}{later}[0-9]{{4,5}}{_AT_END}",
        )
    ),
    rf"{_AT_START_OF_SHORT_GROUPS}{_SEPARATOR}[0-9](?:{_SAME}[0-9]){{11,17}}"
    rf"(?![0-9]|{_SAME}[0-9])",
    rf"{_AT_START_OF_SHORT_GROUPS}{_ISSUER}{_SEPARATOR}[0-9]{{2}}(?:{_SAME}[0-9]{{2}}){{5,7}}"
    rf"(?:{_SAME}[0-9])?(?![0-9]|{_SAME}[0-9])",
)
# All begin with the same digits, which the engine finds fast; lookbehinds check what is before.
_CARD_LIKE = tuple(re.compile(f"[2-6]{pattern}", re.DOTALL) for pattern in _PATTERNS)
_BLANKS = re.compile(r"[ \t]{2,}")
# Random Idempotency-Keys: one in a thousand without hyphens seems to hold a card's number, and its
# request could never succeed.
_RANDOM_KEY = re.compile(r"[0-9A-Fa-f-]{32,}")
_LOWEST, _HIGHEST = 10**12, 10**19
_FORM = "application/x-www-form-urlencoded"
_INTERNAL_PATHS = "/internal/"
_MESSAGE = "must not hold a card number; send the token of the card form"


def holds_card_number(text: str) -> bool:
    """Return whether a text holds a card number, in one piece or in groups.

    Digits of every script count, any dash or space, and invisible characters between them.
    """
    normal_form = _BLANKS.sub(" ", typed(text))
    return any(
        has_check_digit(re.sub(r"[^0-9]", "", match.group()))
        for pattern in _CARD_LIKE
        for match in pattern.finditer(normal_form)
    )


def has_check_digit(digits: str) -> bool:
    """Return whether the last digit is correct (ISO/IEC 7812-1, annex B: Luhn)."""
    products = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in products) % 10 == 0


async def refuse_card_numbers(request: Request, *, in_header: str) -> None:
    """Raise Invalid when a request's query, body or the named header holds a card number.

    Bodies that are neither JSON nor a form are not searched, nor are the calls of Carnet's own
    services: their texts were searched when a client sent them.
    """
    if request.url.path.startswith(_INTERNAL_PATHS):
        return
    for field, value in request.query_params.multi_items():
        _check(field, value)
    key = request.headers.get(in_header, "")
    if not _RANDOM_KEY.fullmatch(key):
        _check(in_header, key)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _FORM:
        for field, value in parse_qsl((await request.body()).decode(errors="replace")):
            _check(field, value)
    elif kind.endswith("json"):
        try:
            content = await request.json()
        except AppError:
            return  # the route does not read the body, or has refused it
        for field, value in _leaves(content):
            _check(field, value)


def _leaves(content: Any) -> Iterator[tuple[str, str]]:
    """Yield every text, large number and field name, with the top-level field that it is in."""
    stack: list[tuple[str, Any]] = [("body", content)]
    while stack:
        field, value = stack.pop()
        if isinstance(value, dict):
            yield from (("body", name) for name in value)
            stack += [(name if field == "body" else field, v) for name, v in value.items()]
        elif isinstance(value, list):
            stack += [(field, item) for item in value]
        elif isinstance(value, str):
            yield field, value
        elif isinstance(value, int | float | Decimal) and _LOWEST <= value < _HIGHEST:
            yield field, str(int(value))


def _check(field: str, value: str) -> None:
    if len(value) < 13 or field.endswith("password"):
        return
    if holds_card_number(value):
        raise Invalid(field, _MESSAGE)
