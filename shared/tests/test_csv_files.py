"""CSV: RFC 4180 for programs, and nothing that a spreadsheet would run."""

import csv
import io
from decimal import Decimal

import pytest

from shared import csv_files
from shared.errors import Invalid


def test_lines_end_and_quote_as_rfc_4180_says() -> None:
    written = csv_files.head(["a", "b"], with_bom=False) + csv_files.lines(
        [['say "yes", now', "two\nlines"], ["one\rmore", None]]
    )
    assert written == b'a,b\r\n"say ""yes"", now","two\nlines"\r\n"one\rmore",\r\n'


def test_a_byte_order_mark_is_written_when_it_is_wanted() -> None:
    assert csv_files.head(["é"], with_bom=True) == b"\xef\xbb\xbf\xc3\xa9\r\n"
    assert csv_files.head(["é"], with_bom=False) == b"\xc3\xa9\r\n"


@pytest.mark.parametrize("before", ["", " ", "\xa0", "\ufeff", "\u200b "])
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_text_is_a_formula(before: str, sign: str) -> None:
    text = f"{before}{sign}1+cmd|' /C calc'!A0"
    [[cell]] = csv.reader(io.StringIO(csv_files.lines([[text]]).decode(), newline=""))
    assert cell == f"'{text}"


def test_numbers_below_zero_stay_numbers() -> None:
    assert csv_files.lines([[Decimal("-5.00"), -3, "a-b"]]) == b"-5.00,-3,a-b\r\n"


def test_a_form_without_a_byte_order_mark_refuses_it() -> None:
    with pytest.raises(Invalid, match="bom"):
        csv_files.check_bom(True, is_csv=False)
    csv_files.check_bom(True, is_csv=True)
    csv_files.check_bom(False, is_csv=False)
