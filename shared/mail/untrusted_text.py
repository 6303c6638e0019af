"""Texts of users inside a message, such as names: one line, and never a link.

Mail clients turn `www.example.com` in any text into a link. So anybody could send links in our name
by registering under such a name with the address of a victim.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from shared.characters import visible

LONGEST = 200
# Around each mark inside of what a mail client would take for an address. It is invisible and has
# no width: https://www.unicode.org/charts/PDF/U2000.pdf, WORD JOINER.
JOINER = "\u2060"
_ADDRESS_MARKS = re.compile(r"(?<=\S)[.:/@\\](?=\S)|[\u3002\uff0e\uff61]")
_SPACES = re.compile(r"\s+")


def neutral(text: str) -> str:
    """Return a user's text as one line without control characters, and with no address in it."""
    printable = "".join(
        " " if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char
        for char in visible(unicodedata.normalize("NFC", text))
    )
    line = _SPACES.sub(" ", printable).strip()
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 1]}…"
    return _ADDRESS_MARKS.sub(lambda mark: f"{JOINER}{mark.group()}{JOINER}", line)


def neutral_values(value: Any) -> Any:
    """Return a JSON value in which every text is neutral."""
    if isinstance(value, str):
        return neutral(value)
    if isinstance(value, Mapping):
        return {name: neutral_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [neutral_values(item) for item in value]
    return value
