"""Comma-separated values (RFC 4180) that are safe to open in a spreadsheet."""

import codecs
import csv
import io
from collections.abc import Iterable
from typing import Annotated

from fastapi import Query

from shared.errors import Invalid
from shared.fields import QueryFlag

MEDIA_TYPE = "text/csv; charset=utf-8"
# The first characters of a formula in a spreadsheet (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Characters that a spreadsheet may skip at the beginning of a cell.
_SKIPPED = " \xa0\u200b\u200e\u200f\u2060\ufeff"

WithBom = Annotated[
    QueryFlag,
    Query(
        alias="bom",
        description="Whether a CSV begins with the byte order mark of UTF-8, without which Excel"
        " takes its text for Windows-1252",
    ),
]


def check_bom(with_bom: bool, *, is_csv: bool) -> None:
    """Raise Invalid if a byte order mark is requested for another format than CSV."""
    if with_bom and not is_csv:
        raise Invalid("bom", "is for CSV only; send format=csv with it, or leave it out")


def head(columns: Iterable[str], *, with_bom: bool) -> bytes:
    """Return the first line of a file, with the names of the columns."""
    return (codecs.BOM_UTF8 if with_bom else b"") + lines([columns])


def lines(rows: Iterable[Iterable[object]]) -> bytes:
    """Return lines of cells in UTF-8, each ended by CR and LF."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerows([as_text(value) for value in row] for row in rows)
    return buffer.getvalue().encode()


def as_text(value: object) -> object:
    """Return a cell with an apostrophe in front if a spreadsheet would read it as a formula."""
    if isinstance(value, str) and value.lstrip(_SKIPPED).startswith(_FORMULA):
        return f"'{value}"
    return value
