"""The token that represents a card, so that Carnet never sees its number (PCI DSS 4.0).

Every service that accepts a token checks its form, so that an invalid one is refused before
anything is stored.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

_TOKEN = re.compile(r"(pm|tok)_[A-Za-z0-9_]{1,200}")
_LONG_DIGITS = re.compile(r"[0-9]{13,}")


def _token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if _LONG_DIGITS.search(token):
        raise ValueError("must not hold a card number; send the token of the card form")
    if not _TOKEN.fullmatch(token):
        raise ValueError("must be a token of the card form: pm_… or tok_…")
    return value


CardToken = Annotated[
    SecretStr,
    AfterValidator(_token),
    Field(json_schema_extra={"pattern": f"^{_TOKEN.pattern}$"}),
]
"""A payment gateway's token for a card, never the card's number."""
