"""Comma-separated values (RFC 4180), and what spreadsheets make of them."""

import codecs
import csv
import io
from collections.abc import Iterable
from typing import Annotated

from fastapi import Query

from shared.errors import Invalid
from shared.fields import QueryFlag

MEDIA_TYPE = "text/csv; charset=utf-8"
# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Characters at the beginning of a cell that a spreadsheet may pass over.
_UNSEEN = " \xa0\u200b\u200e\u200f\u2060\ufeff"

WithBom = Annotated[
    QueryFlag,
    Query(
        alias="bom",
        description="Whether a CSV begins with the byte order mark of UTF-8, without which Excel"
        " takes its text for Windows-1252",
    ),
]


def check_bom(with_bom: bool, *, is_csv: bool) -> None:
    """Raise Invalid if a byte order mark is asked for in a form that has none."""
    if with_bom and not is_csv:
        raise Invalid("bom", "is for CSV only; send format=csv with it, or leave it out")


def head(columns: Iterable[str], *, with_bom: bool) -> bytes:
    """Return the beginning of a file: the line of names, after the byte order mark if wanted."""
    return (codecs.BOM_UTF8 if with_bom else b"") + lines([columns])


def lines(rows: Iterable[Iterable[object]]) -> bytes:
    """Return lines of cells in UTF-8, each ended by CR and LF.

    Numbers are written as they are. A text that a spreadsheet would take for a formula gets an
    apostrophe in front, which marks it as text.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return written.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.lstrip(_UNSEEN).startswith(_FORMULA):
        return f"'{value}"
    return value
