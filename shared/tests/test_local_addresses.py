"""E-mail addresses that only one machine or network knows, taken by a setting."""

from collections.abc import Iterator

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.fields import Email, accept_local_addresses


@pytest.fixture
def local_addresses() -> Iterator[None]:
    accept_local_addresses(True)
    yield
    accept_local_addresses(False)


LOCAL = [
    ("me@localhost", "me@localhost"),
    ("Me@LocalHost", "Me@localhost"),
    (" anna@shop.test ", "anna@shop.test"),
    ("a@b.c.internal", "a@b.c.internal"),
    ("a@internal", "a@internal"),
]


@pytest.mark.parametrize(("written", "read"), LOCAL)
def test_local_addresses_are_taken_by_setting(
    local_addresses: None, written: str, read: str
) -> None:
    assert TypeAdapter(Email).validate_python(written) == read


@pytest.mark.parametrize(
    "address",
    ["me@@localhost", "@test", "a b@shop.test", "me@.test", "me@-a.test", "me@host", "a@b.invalid"],
)
def test_with_local_addresses_the_form_still_counts(local_addresses: None, address: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Email).validate_python(address)


@pytest.mark.parametrize("address", ["me@localhost", "anna@shop.test", "me@internal"])
def test_without_the_setting_local_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Email).validate_python(address)
