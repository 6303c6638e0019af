"""Characters that look alike or cannot be seen, and the plain form of a text that has them."""

import re
import unicodedata
from functools import cache

# As characters themselves: in a class of a regular expression every dialect reads them alike.
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Ranges for the inside of a character class: Default_Ignorable_Code_Point of the Unicode Character
Database (DerivedCoreProperties.txt), which Python does not know."""

INVISIBLE = IGNORABLE + "\u2800\U0001d159\U00016fe4"
"""The same with three characters that fonts draw as blanks: what leaves no mark on a page."""

_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_MINUS = "\u2212"
_LAST_WITH_A_TWIN = 0x1FFFF
"""No plane above the second has digits, dashes or spaces."""


def visible(text: str) -> str:
    """Return a text without the characters that cannot be seen."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def typed(text: str) -> str:
    """Return a text with the digits, dashes and spaces of a keyboard, and nothing invisible.

    Digits of every script and form are 0 to 9, each dash is a hyphen, each connector a low line and
    each space within a line a space. The cost is linear and small, for texts of any length.
    """
    return text if text.isascii() else visible(text).translate(_twins())


def plain(text: str) -> str:
    """Return the same with compatibility forms folded too (NFKC), such as full-width letters.

    For short texts: a character may become eighteen.
    """
    return text if text.isascii() else typed(unicodedata.normalize("NFKC", typed(text)))


@cache
def _twins() -> dict[int, str]:
    """Return the keyboard's character for each character of the same meaning."""
    twins = ((code, _twin(chr(code))) for code in range(0x80, _LAST_WITH_A_TWIN))
    return {code: twin for code, twin in twins if twin is not None}


def _twin(char: str) -> str | None:
    category = unicodedata.category(char)
    if category in ("Nd", "No"):
        digit = unicodedata.digit(char, None)
        return None if digit is None else str(digit)
    if char == _MINUS:
        return "-"
    return {"Pd": "-", "Pc": "_", "Zs": " "}.get(category)
