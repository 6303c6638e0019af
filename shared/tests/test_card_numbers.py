"""Card numbers are known in every spelling, and little else is taken for one."""

from time import process_time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request

from shared.card_numbers import holds_card_number, refuse_card_numbers
from shared.errors import Invalid
from shared.json_reader import ExactRequest

# Test numbers that the card networks and payment gateways publish.
NUMBERS = (
    "4242424242424242",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "6011111111111117",
    "30569309025904",
    "3566002020360505",
    "6205500000000000004",
)


@pytest.mark.parametrize("number", NUMBERS)
def test_in_one_piece_in_groups_and_within_a_text(number: str) -> None:
    grouped = [number[start : start + 4] for start in range(0, len(number), 4)]
    for text in (number, " ".join(grouped), "-".join(grouped), f"paid with {number}, thanks"):
        assert holds_card_number(text)
        assert holds_card_number(f"{text} 12/28 123"), "with its last month and its check value"
        assert holds_card_number(f"{text} 1228")
    assert not holds_card_number(number[:-1] + str((int(number[-1]) + 1) % 10))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+48 22 123 45 67",
        "PL61 1090 1014 0000 0712 1981 2874",
        "61109010140000071219812874",
        "transfer 12345678901234567890123456, invoice 4242424242424243",
        "2026-11-25T12:30:00.123456+00:00",
        "018f4e9a-4242-7424-8242-424242424242",
        "018f4e9a-4242-4242-8242-4284abcdef01",
        "abcd4242-4242-4242-8425-4abcdef01234",
        "+4915123456787",
        "+55 (11) 91234-5678, +5511912345676",
        "4242 4242 4242",
        "4242, 4242, 4242, 4242",
        "4242; 4242; 4242; 4242",
        "2020/2021/2022/2023",
        "2026-11-25 12:30:00 / 2026-11-26 12:30:00",
        "+33 6 12 34 56 78 / +33 6 42 42 42 42",
        "DE42\u00a04242\u00a04242\u00a04242\u00a04242\u00a042",
        "4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2",
        "9223372036854775807",
    ],
)
def test_what_is_none(text: str) -> None:
    assert not holds_card_number(text)


SEPARATORS = {
    "no-break space": "\u00a0",
    "thin space": "\u2009",
    "narrow no-break space": "\u202f",
    "ideographic space": "\u3000",
    "two spaces": "  ",
    "tab": "\t",
    "line feed": "\n",
    "line break of Windows": "\r\n",
    "line separator": "\u2028",
    "non-breaking hyphen": "\u2011",
    "en dash": "\u2013",
    "em dash": "\u2014",
    "minus": "\u2212",
    "small hyphen": "\ufe63",
    "full-width hyphen": "\uff0d",
    "dash with spaces": " \u2013 ",
    "slash": "/",
    "division slash": "\u2215",
    "low line": "_",
    "full-width low line": "\uff3f",
    "middle dot": "\u00b7",
    "bar": "|",
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "Hangul filler": "\u3164",
}


@pytest.mark.parametrize("name", SEPARATORS)
def test_any_separator_between_the_groups(name: str) -> None:
    separator = SEPARATORS[name]
    for groups in (["4242"] * 4, ["3782", "822463", "10005"]):
        assert holds_card_number(f"paid with {separator.join(groups)}, thanks")
    assert not holds_card_number(separator.join(["4242", "4242", "4242", "4243"]))


@pytest.mark.parametrize("zero", ["\uff10", "\u0660", "\u06f0", "\u0966", "\u2080", "\U0001d7f6"])
def test_the_digits_of_every_script_and_form(zero: str) -> None:
    assert holds_card_number("".join(chr(ord(zero) + int(digit)) for digit in NUMBERS[0]))


@pytest.mark.parametrize("separator", [" ", "-", "\u00a0", "_", "/", "\u200b"])
@pytest.mark.parametrize("length", [1, 2])
def test_short_groups(separator: str, length: int) -> None:
    number = NUMBERS[0]
    pieces = [number[start : start + length] for start in range(0, len(number), length)]
    assert holds_card_number(separator.join(pieces))
    assert not holds_card_number(separator.join([*pieces, *pieces]))


def test_a_number_that_is_wrapped_at_the_end_of_a_line() -> None:
    assert holds_card_number("4242 4242\n4242 4242")


def test_the_longest_text_costs_little() -> None:
    for text in ("\ufdfa" * 340_000, "4 " * 500_000, "4\u200b" * 250_000, "4242-" * 200_000):
        began = process_time()
        holds_card_number(text)
        assert process_time() - began < 2


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b'{"a": [4242424242424242.0]}', b'{"a": 4242424242424242}'])
async def test_a_number_in_json(body: bytes) -> None:
    for exact in (False, True):
        with pytest.raises(Invalid, match="card number"):
            request = _with_json(body, exact=exact)
            await refuse_card_numbers(request, in_header="Idempotency-Key")


def test_groups_of_another_kind() -> None:
    assert holds_card_number("3782 822463 10005")


def test_longer_than_any_telephone_number() -> None:
    assert holds_card_number("+4242424242424242")


@given(st.text(max_size=200))
def test_any_text_is_judged(text: str) -> None:
    assert holds_card_number(text) in (True, False)


def _with_key(key: str) -> Request:
    headers = [(b"idempotency-key", key.encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return Request(scope)


def _with_json(body: bytes, *, exact: bool) -> Request:
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return (ExactRequest if exact else Request)(scope, receive)


@pytest.mark.anyio
@example("a4222222222222b" + 17 * "c")
@given(st.one_of(st.uuids().map(str), st.text("0123456789abcdef", min_size=32, max_size=64)))
async def test_a_random_key_is_never_taken_for_a_card(key: str) -> None:
    await refuse_card_numbers(_with_key(key), in_header="Idempotency-Key")


@pytest.mark.anyio
@pytest.mark.parametrize("key", [*NUMBERS, "order 4242-4242-4242-4242", 2 * "4242424242424242 "])
async def test_a_key_that_is_a_card_number(key: str) -> None:
    with pytest.raises(Invalid, match="card number"):
        await refuse_card_numbers(_with_key(key), in_header="Idempotency-Key")
