"""Folded text, for keys, counters and searches: without case, forms and invisible characters.

`fold` in Python and `folded` in PostgreSQL have the same result. A migration creates `folded` in
each schema that needs it, because PostgreSQL's own lower() depends on the locale of the database
and does not normalize. When a column is compared, PostgreSQL folds both sides, so that different
Unicode versions do not matter.
"""

import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, func

from shared.characters import IGNORABLE

# As escapes, which PostgreSQL's regular expressions know too: a dump of the function is readable.
_IGNORED = "".join(char if char == "-" else f"\\U{ord(char):08x}" for char in IGNORABLE)
_IGNORED_RE = re.compile(f"[{_IGNORED}]")

# The small i of U+0130, the capital with a dot, has the dot as a character of its own. PostgreSQL's
# lower() makes a plain i of that capital in most locales.
_DOTTED, _PLAIN = "i\u0307", "i"


def fold(text: str) -> str:
    """Return the form that all spellings of a text have in common.

    That is Unicode's NFKC_Casefold (chapter 3.13); in addition an i with a dot becomes an i.
    """
    visible = _IGNORED_RE.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", visible.casefold().replace(_DOTTED, _PLAIN))


def contains(column: Any, part: str | ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that a column contains a part, both folded."""
    # Not LIKE: a full-width percent sign folds to a wildcard.
    return func.strpos(func.folded(column), func.folded(part)) > 0


def folding_pairs() -> Iterator[tuple[str, str]]:
    """Yield each decomposed character that case folding changes, with its folded form."""
    for number in range(sys.maxunicode + 1):
        char = chr(number)
        if char.casefold() != char and unicodedata.normalize("NFKD", char) == char:
            yield char, char.casefold()


def create_folding_statement() -> str:
    """Return the statement that creates `folded` in a schema.

    Its table of characters is that of the present Python. Texts of ASCII, and those without a
    capital beyond ASCII, do not use the table: translate() searches all of it for each character.
    """
    pairs = list(folding_pairs())
    single = [(char, lower) for char, lower in pairs if len(lower) == 1]
    several = [(char, lower) for char, lower in pairs if len(lower) > 1]
    expression = "folding"
    for char, lower in several:
        expression = f"replace({expression}, '{char}', '{lower}')"
    beyond = "".join(char for char, _ in pairs if not char.isascii())
    return f"""
CREATE FUNCTION folded(spelling text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE folding text;
BEGIN
    IF octet_length(spelling) = length(spelling) THEN
        RETURN lower(spelling COLLATE "C");
    END IF;
    folding := regexp_replace(
        normalize(spelling, NFKD) COLLATE "C", '[{_IGNORED}]', '', 'g');
    IF folding COLLATE "C" ~ '[{beyond}]' THEN
        folding := translate(folding, '{"".join(char for char, _ in single)}',
            '{"".join(lower for _, lower in single)}');
        folding := {expression};
    ELSE
        folding := lower(folding COLLATE "C");
    END IF;
    RETURN normalize(replace(folding, '{_DOTTED}', '{_PLAIN}'), NFC);
END $$
"""
