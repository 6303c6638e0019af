"""Types of request fields that keep card numbers out: we must never see one (PCI DSS 3.2)."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from shared.fields import Name, Text

_TOKEN = re.compile(r"(pm|tok)_[A-Za-z0-9_]{1,200}")
_LONG_DIGITS = re.compile(r"[0-9]{13,}")
# ISO/IEC 7812: 13 to 19 digits, as people group them.
_CARD_LIKE = re.compile(r"(?<![0-9])[0-9](?:[ .-]?[0-9]){12,18}(?![0-9])")


def is_card_number(digits: str) -> bool:
    """Say whether the digits have a card number's check digit (ISO/IEC 7812-1, Luhn)."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _no_card_number(text: str) -> str:
    for found in _CARD_LIKE.finditer(text):
        if is_card_number(re.sub(r"[^0-9]", "", found.group())):
            raise ValueError("must not hold a card number")
    return text


def _token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if _LONG_DIGITS.search(token):
        raise ValueError("must not hold a card number; send the token of the card form")
    if not _TOKEN.fullmatch(token):
        raise ValueError("must be a token of the card form: pm_… or tok_…")
    return value


PaymentToken = Annotated[
    SecretStr,
    AfterValidator(_token),
    Field(json_schema_extra={"pattern": f"^{_TOKEN.pattern}$"}),
]
"""A payment gateway's token for a card, never the card's number."""

Line = Annotated[Name, AfterValidator(_no_card_number)]
"""A line of text without a card number."""

Note = Annotated[Text, AfterValidator(_no_card_number)]
"""Text of several lines without a card number."""
