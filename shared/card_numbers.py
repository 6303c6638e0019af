"""Payment card numbers are refused at the edge, whatever field they stand in.

A number that is never taken in can be in no table, event or log (PCI DSS 4.0, requirement 3).
Passwords are exempt: they are hashed, kept nowhere, and somebody's may look like a card.
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
# All begin with the same digits, which the expressions' engine finds fast; what must stand before
# is looked for from behind them.
_CARD_LIKE = tuple(re.compile(f"[2-6]{pattern}", re.DOTALL) for pattern in _PATTERNS)
_BLANKS = re.compile(r"[ \t]{2,}")
# What clients draw for an Idempotency-Key: of a thousand without hyphens one seems to hold a card's
# number, and its request could never be made.
_RANDOM_KEY = re.compile(r"[0-9A-Fa-f-]{32,}")
_LOWEST, _HIGHEST = 10**12, 10**19
_FORM = "application/x-www-form-urlencoded"
_OF_CARNET = "/internal/"
_MESSAGE = "must not hold a card number; send the token of the card form"


def holds_card_number(text: str) -> bool:
    """Say whether a text holds a card's number, in one piece or in groups.

    In whatever characters: digits of every script, any dash or space, with invisible ones between.
    """
    written = _BLANKS.sub(" ", typed(text))
    return any(
        _has_check_digit(re.sub(r"[^0-9]", "", found.group()))
        for pattern in _CARD_LIKE
        for found in pattern.finditer(written)
    )


def _has_check_digit(digits: str) -> bool:
    """Say whether the last digit is right (ISO/IEC 7812-1, annex B: Luhn)."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


async def refuse_card_numbers(request: Request, *, in_header: str) -> None:
    """Raise Invalid when a request's query, body or the named header holds a card number.

    Bodies that are neither JSON nor a form are their endpoints' business, as are the calls of
    Carnet's own services, whose texts came in through here.
    """
    if request.url.path.startswith(_OF_CARNET):
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
        for field, value in _leaves(await _json(request)):
            _check(field, value)


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except AppError:
        return None  # the route does not read it, or would have refused it


def _leaves(content: Any) -> Iterator[tuple[str, str]]:
    """Yield every text and large number with its top-level field; names of fields as well."""
    waiting: list[tuple[str, Any]] = [("body", content)]
    while waiting:
        field, value = waiting.pop()
        if isinstance(value, dict):
            yield from (("body", name) for name in value)
            waiting += [(name if field == "body" else field, v) for name, v in value.items()]
        elif isinstance(value, list):
            waiting += [(field, item) for item in value]
        elif isinstance(value, str):
            yield field, value
        elif isinstance(value, int | float | Decimal) and _LOWEST <= value < _HIGHEST:
            yield field, str(int(value))


def _check(field: str, value: str) -> None:
    if len(value) < 13 or field.endswith("password"):
        return
    if holds_card_number(value):
        raise Invalid(field, _MESSAGE)
