"""Characters that look alike or are invisible, and the plain form of a text that has them."""

import re
import unicodedata
from functools import cache

# The characters themselves, not escapes: every dialect of regular expressions reads these alike.
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Ranges for the inside of a character class: Default_Ignorable_Code_Point of the Unicode Character
Database (DerivedCoreProperties.txt), which Python does not know."""

INVISIBLE = IGNORABLE + "\u2800\U0001d159\U00016fe4"
"""IGNORABLE with three characters that fonts draw as blanks: all that is invisible on a page."""

_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_MINUS = "\u2212"
_LAST_WITH_A_TWIN = 0x1FFFF
"""No plane above the second has digits, dashes or spaces."""


def visible(text: str) -> str:
    """Return a text without invisible characters."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def typed(text: str) -> str:
    """Return a text without invisible characters, and with the digits, dashes and spaces of ASCII.

    Digits of every script become 0 to 9, each dash a hyphen, each connector an underscore and each
    space within a line a space. The cost grows linearly with the text.
    """
    return text if text.isascii() else visible(text).translate(_ascii_twins())


def plain(text: str) -> str:
    """Return a text like `typed`, with compatibility forms such as full-width letters replaced.

    That is Unicode's NFKC. For short texts: one character may become eighteen.
    """
    return text if text.isascii() else typed(unicodedata.normalize("NFKC", typed(text)))


@cache
def _ascii_twins() -> dict[int, str]:
    """Return the character of ASCII with the same meaning, by code point."""
    twins = ((code, ascii_twin(chr(code))) for code in range(0x80, _LAST_WITH_A_TWIN))
    return {code: twin for code, twin in twins if twin is not None}


def ascii_twin(char: str) -> str | None:
    """Return the digit, dash, underscore or space of ASCII that means the same, or None."""
    category = unicodedata.category(char)
    if category in ("Nd", "No"):
        digit = unicodedata.digit(char, None)
        return None if digit is None else str(digit)
    if char == _MINUS:
        return "-"
    return {"Pd": "-", "Pc": "_", "Zs": " "}.get(category)
