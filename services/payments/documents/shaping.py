"""Pages with text of any script: fallback typefaces, shaping, and both writing directions.

fpdf2 shapes with HarfBuzz and resolves directions (UAX 9). Replaced here are its choice of
typefaces, which needs all of them open and separates marks from their letters, and its order of the
parts of a line, which is wrong for numbers within text from right to left.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, cast
from unicodedata import category, combining, name, normalize

import uharfbuzz
from fpdf import FPDF
from fpdf.bidi import BidiParagraph
from fpdf.enums import TextDirection
from fpdf.fonts import Glyph, HarfBuzzFont, SubsetMap, TTFFont
from fpdf.line_break import Fragment, TextLine

from services.payments.documents import typefaces
from services.payments.documents.typefaces import Typeface

MARK = "\N{BALLOT BOX}"
_VARIATIONS = frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
_ISOLATE, _END = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"
_BREAK = "\N{ZERO WIDTH SPACE}"
_INVISIBLE = _JOINERS + _ISOLATE + _END + _BREAK
# Written without spaces; the Unicode names of their letters begin with these words.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
# Vowels of Thai and Lao that are letters to Unicode and stay with the consonant before or after.
_AFTER_CONSONANT = frozenset("ะาำຽະາຳ")
_BEFORE_CONSONANT = frozenset("เแโใไເແໂໃໄ")
_VIRAMA = 9


class ShapedPage(FPDF):
    """A document in one family; text of other scripts is shaped in fallback typefaces.

    A document without such text is written as if there were no fallback: without shaping.
    """

    def __init__(self, family: str, regular: Path, bold: Path, text: str) -> None:
        """`text` holds every character that will be written."""
        super().__init__(format="A4")
        self.is_marked = False
        for style, path in (("", regular), ("B", bold)):
            key = family.lower() + style
            self.fonts[key] = _MeasuredFont(self, path, key, style)
        self._own_cmap = cast(TTFFont, self.fonts[family.lower()]).cmap
        self._fallbacks = self._add_fallbacks(set(normalize("NFC", text)))

    def _add_fallbacks(self, chars: set[str]) -> tuple[Typeface, ...]:
        faces = typefaces.needed_for(char for char in chars if self._is_foreign(char))
        for face in faces:
            subset = {char for char in chars if face.covers(char)} | set(_INVISIBLE)
            for style, weight in face.styles.items():
                key = face.family + style
                self.fonts[key] = _SubsetFont(self, face.subset(subset, weight), key, style)
        if faces:
            self.set_text_shaping(True)
        return faces

    def _is_foreign(self, char: str) -> bool:
        return ord(char) not in self._own_cmap and not _is_ignored(char) and char not in "\n\r"

    def isolated(self, text: str) -> str:
        """Return text whose direction does not spread to what is written beside it (UAX 9)."""
        if not self._fallbacks:
            return text
        return f"{_ISOLATE}{text.replace(_ISOLATE, '').replace(_END, '')}{_END}"

    def normalize_text(self, text: str) -> str:
        """Replace each character that no typeface has by a mark.

        The library would leave them out: a name in Tibetan would be empty.
        """
        text = "".join(map(self._visible, normalize("NFC", super().normalize_text(text))))
        return _with_breaks(text) if self._fallbacks else text

    def _visible(self, char: str) -> str:
        if not self._is_foreign(char) and not _is_ignored(char):
            return char
        if _is_ignored(char):
            return char if self._fallbacks and char in _INVISIBLE.removesuffix(_BREAK) else ""
        if any(face.covers(char) for face in self._fallbacks):
            return char
        self.is_marked = True
        return MARK

    def _parse_chars(self, text: str, markdown: bool, **options: Any) -> Iterator[Fragment]:
        """Split text where its typeface changes (called by the library for each direction)."""
        if not self._fallbacks:
            yield from super()._parse_chars(text, markdown, **options)
            return
        for face, run in groupby(self._with_faces(text), key=lambda pair: pair[1]):
            state = self._get_current_graphics_state()
            if face is not None:
                state.font_family = face.family
                style = self.font_style if self.font_style in face.styles else ""
                state.current_font = self.fonts[face.family + style]
            yield Fragment([char for char, _ in run], state, self.k)

    def _with_faces(self, text: str) -> Iterator[tuple[str, Typeface | None]]:
        """Yield each character with its typeface, None for the document's own.

        What can go on in the typeface of the character before it does: marks stay with their
        letters, and the parts of a joined emoji with each other.
        """
        face: Typeface | None = None
        for char in text:
            stays = char in _INVISIBLE or (
                face is not None
                and (category(char)[0] == "M" or self._is_foreign(char))
                and face.covers(char)
            )
            if not stays:
                candidates = self._fallbacks if self._is_foreign(char) else ()
                face = next((each for each in candidates if each.covers(char)), None)
            yield char, face

    def _render_styled_text_line(
        self, text_line: TextLine, h: float | None = None, *args: Any, **options: Any
    ) -> bool:
        if not self._fallbacks or not text_line.fragments or h is None:
            return super()._render_styled_text_line(text_line, h, *args, **options)
        line = _OrderedLine(*text_line._replace(fragments=_in_order(text_line.fragments)))
        is_new_page = self._perform_page_break_if_need_be(h)
        # If the line begins with another typeface, the library sets the page's font within the
        # line. The setting ends with the line, but the library would rely on it afterwards.
        if not self.current_font_is_set_on_page and self.current_font is not None:
            self._out(self._set_font_for_page(self.current_font, self.font_size_pt))
        return super()._render_styled_text_line(line, h, *args, **options) or is_new_page


class _MeasuredFont(TTFFont):
    """A font that caches the widths of shaped text: line breaking asks for each many times."""

    def __init__(self, page: FPDF, path: Path, key: str, style: str) -> None:
        super().__init__(page, path, key, style)
        self._widths: dict[tuple[str, float, Any], tuple[int, float]] = {}

    def get_text_width(
        self, text: str, font_size_pt: float, text_shaping_params: dict[str, Any] | None
    ) -> tuple[int, float]:
        if text_shaping_params is None:
            return super().get_text_width(text, font_size_pt, None)
        key = (text, font_size_pt, text_shaping_params.get("fragment_direction"))
        if key not in self._widths:
            self._widths[key] = super().get_text_width(text, font_size_pt, text_shaping_params)
        return self._widths[key]


class _SubsetFont(_MeasuredFont):
    """A font in memory: `TTFFont` and HarfBuzz read their tables from there."""

    def __init__(self, page: FPDF, font: bytes, key: str, style: str) -> None:
        super().__init__(page, cast(Path, BytesIO(font)), key, style)
        self._hbfont = HarfBuzzFont(uharfbuzz.Face(font))
        self.subset = _Glyphs(self)


class _Glyphs(SubsetMap):
    """The glyphs that a document uses of a font, each with the characters it stands for."""

    # Cached as in the library, which empties the cache when a document is finished.
    @cache  # noqa: B019
    def get_glyph(
        self,
        glyph: int | None = None,
        unicode: int | tuple[int, ...] | None = None,
        glyph_name: str | None = None,
        glyph_width: int | None = None,
    ) -> Glyph | None:
        # The library leaves out characters without a glyph; the font's own box is visible.
        if glyph == 0 and glyph_name is not None and glyph_width is not None:
            return Glyph(0, (ord("\N{REPLACEMENT CHARACTER}"),), glyph_name, glyph_width)
        # The second glyph of a character, such as the dots of an Arabic letter, needs a character
        # of its own: otherwise a reader of the file copies the glyph's number as text.
        if unicode == ():
            unicode = (ord("\N{WORD JOINER}"),)
        uncached = SubsetMap.get_glyph.__wrapped__
        return uncached(self, glyph, unicode, glyph_name, glyph_width)


class _OrderedLine(TextLine):
    """A line whose fragments are in the order of drawing already."""

    def get_ordered_fragments(self) -> list[Fragment]:
        return list(self.fragments)


def _is_ignored(char: str) -> bool:
    """Return whether a character only controls how others are drawn."""
    return category(char) == "Cf" or char in _VARIATIONS


def _with_breaks(text: str) -> str:
    """Return text with places to break lines in scripts that are written without spaces."""
    pieces: list[str] = []
    for before, char in zip(" " + text, text, strict=False):
        if _may_break(before, char):
            pieces.append(_BREAK)
        pieces.append(char)
    return "".join(pieces)


def _may_break(before: str, char: str) -> bool:
    if category(char) != "Lo" or char in _AFTER_CONSONANT or before.isspace():
        return False
    if before in _BEFORE_CONSONANT or combining(before) == _VIRAMA or category(before) == "Ps":
        return False
    return name(char, "").startswith(_UNSPACED)


def _in_order(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Return a line's fragments from left to right, by their levels (UAX 9, rule L2)."""
    runs = _runs(fragments)
    for level in range(max(level for level, _ in runs), 0, -1):
        in_order: list[tuple[int, Fragment]] = []
        for is_reversed, group in groupby(runs, key=lambda run: run[0] >= level):
            members = list(group)
            in_order += members[::-1] if is_reversed else members
        runs = in_order
    return [fragment for _, fragment in runs]


def _runs(fragments: Sequence[Fragment]) -> list[tuple[int, Fragment]]:
    """Return a line's parts of one style and level, without what only steers line and order."""
    text = "".join(fragment.string for fragment in fragments)
    base = fragments[0].paragraph_direction
    levels = [
        char.embedding_level
        for char in BidiParagraph(
            text, base, preserve_bn_chars=True
        ).get_characters_with_embedding_level()
    ]
    runs: list[tuple[int, Fragment]] = []
    start = 0
    for fragment in fragments:
        pairs = zip(fragment.characters, levels[start:], strict=False)
        start += len(fragment.characters)
        for level, group in groupby(pairs, key=lambda pair: pair[1]):
            chars = [char for char, _ in group if char not in (_ISOLATE, _END, _BREAK)]
            if chars:
                state = fragment.graphics_state.copy()
                shaping = cast(dict[str, Any], state.text_shaping)
                direction = TextDirection.RTL if level % 2 else TextDirection.LTR
                shaping["fragment_direction"] = direction
                runs.append((level, Fragment(chars, state, fragment.k)))
    return runs or [(0, fragments[0])]
