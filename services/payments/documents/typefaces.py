"""Fallback typefaces (Noto) for the scripts that the typeface of the documents lacks.

A file is opened when a document needs it, stays mapped, and is shared by all threads. HarfBuzz cuts
it down to the characters of the document: milliseconds, even for the 19 MB of Chinese, Japanese and
Korean.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from unicodedata import name, normalize

import uharfbuzz

_WEIGHTS: Mapping[str, float] = {"": 400.0, "B": 700.0}
# Glyphs that shaping adds by itself: the circle under a mark that has no letter, and the
# left half of Khmer vowels.
_DRAWN_BY_SHAPING = "\N{DOTTED CIRCLE}\N{KHMER VOWEL SIGN E}"
# For text that runs from top to bottom.
_VERTICAL_TABLES = tuple(int.from_bytes(tag, "big") for tag in (b"vhea", b"vmtx", b"VORG"))
_SCRIPTS = (
    "Sans",  # Latin, Greek and Cyrillic beyond what the typeface of the documents has
    "SansArabic",
    "SansArmenian",
    "SansBengali",
    "SansDevanagari",
    "SansEthiopic",
    "SansGeorgian",
    "SansGujarati",
    "SansGurmukhi",
    "SansHebrew",
    "SansKannada",
    "SansKhmer",
    "SansLao",
    "SansMalayalam",
    "SansMyanmar",
    "SansOriya",
    "SansSinhala",
    "SansTamil",
    "SansTelugu",
    "SansThai",
    "SansSymbols",
    "Emoji",
)


@dataclass(frozen=True, slots=True)
class Typeface:
    """A font file of a package, or one of the fonts in it."""

    family: str
    package: str
    file: str
    index: int = 0
    has_weights: bool = True

    def covers(self, char: str) -> bool:
        """Return whether the typeface has a glyph for a character."""
        return _open(self).get_nominal_glyph(ord(char)) is not None

    @property
    def styles(self) -> Mapping[str, float]:
        """Return the styles ("B" is bold) with their weights, values of the axis `wght`."""
        return _WEIGHTS if self.has_weights else {"": _WEIGHTS[""]}

    def subset(self, chars: Iterable[str], weight: float) -> bytes:
        """Return a font of one weight with what is needed to shape the given characters."""
        text = "".join(chars)
        face = _open(self).face
        options = uharfbuzz.SubsetInput()
        # Shaping takes some characters apart: Thai sara am is drawn as two glyphs.
        options.unicode_set.update(map(ord, text + normalize("NFKD", text) + _DRAWN_BY_SHAPING))
        options.drop_table_tag_set.update(_VERTICAL_TABLES)
        if self.has_weights:
            options.pin_axis_location(face, "wght", weight)
        return bytes(uharfbuzz.subset(face, options).blob.data)


_NOTO = tuple(
    Typeface(f"noto {script}".lower(), "manimgx_fonts", f"Noto{script}[wght].ttf")
    for script in _SCRIPTS
)
# The order of the regional forms in the collection.
_JAPANESE, _KOREAN, _SIMPLIFIED, _TRADITIONAL = (
    Typeface(
        f"noto sans cjk {region}", "noto_cjk_sans_otc", "NotoSansCJK-Regular.ttc", index, False
    )
    for index, region in enumerate(("jp", "kr", "sc", "tc"))
)


def needed_for(chars: Iterable[str]) -> tuple[Typeface, ...]:
    """Return the typefaces that together have all of the characters that any typeface has."""
    text = sorted(chars)
    candidates = (*_NOTO, _regional(text))
    faces = {next((face for face in candidates if face.covers(char)), None) for char in text}
    return tuple(face for face in candidates if face in faces)


def _regional(chars: Iterable[str]) -> Typeface:
    """Return the typeface whose forms of the shared Han characters fit the rest of a text.

    The forms differ by country, and a name carries no country: kana and Hangul decide, and
    otherwise the national character set that has all of the text's Han characters.
    """
    names = {name(char, "").split(" ")[0] for char in chars}
    if names & {"HIRAGANA", "KATAKANA"}:
        return _JAPANESE
    if "HANGUL" in names:
        return _KOREAN
    han = "".join(char for char in chars if name(char, "").startswith("CJK UNIFIED"))
    is_traditional = not _encodes(han, "gb2312") and _encodes(han, "big5")
    return _TRADITIONAL if is_traditional else _SIMPLIFIED


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


@cache
def _open(typeface: Typeface) -> uharfbuzz.Font:
    path = files(typeface.package) / typeface.file
    blob = uharfbuzz.Blob.from_file_path(str(path))
    return uharfbuzz.Font(uharfbuzz.Face(blob, typeface.index))
