"""Card numbers are known in every spelling, and little else is taken for one."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request

from shared.card_numbers import holds_card_number, refuse_card_numbers
from shared.errors import Invalid

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
        "4242\n4242\n4242\n4242",
        "9223372036854775807",
    ],
)
def test_what_is_none(text: str) -> None:
    assert not holds_card_number(text)


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
