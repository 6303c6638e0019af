"""What sessions are worth: rounding loses and invents nothing."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.vouchers.service.pro_rata import amount_for, sessions_for, worth

CENT, YEN = Decimal("0.01"), Decimal(1)

prices = st.decimals(min_value="1.00", max_value="9999.99", places=2)
totals = st.integers(1, 60)


@given(prices, totals, st.lists(st.integers(1, 60), max_size=60))
def test_parts_add_up_to_what_they_are_worth_together(
    price: Decimal, total: int, parts: list[int]
) -> None:
    back, sessions = Decimal(0), 0
    for part in parts:
        if sessions + part > total:
            break
        back += amount_for(
            price, total, refunded_sessions=sessions, sessions=part, refunded_amount=back, unit=CENT
        )
        sessions += part
    assert back == worth(price, total, sessions, CENT) <= price
    assert back == price or sessions < total


@given(prices, totals, st.data())
def test_money_that_went_back_for_no_session_counts(
    price: Decimal, total: int, data: st.DataObject
) -> None:
    courtesy = data.draw(st.decimals(min_value=0, max_value=price, places=2))
    amount = amount_for(
        price, total, refunded_sessions=0, sessions=total, refunded_amount=courtesy, unit=CENT
    )
    assert amount == price - courtesy


@given(prices, totals, st.data())
def test_an_amount_pays_for_the_sessions_it_was_quoted_for(
    price: Decimal, total: int, data: st.DataObject
) -> None:
    assume(price / total >= 1)  # where a cent is less than a hundredth of a session
    sessions = data.draw(st.integers(1, total))
    assert sessions_for(price, total, worth(price, total, sessions, CENT)) == sessions


@pytest.mark.parametrize(
    ("amount", "sessions"),
    [("0.01", 0), ("39.00", 0), ("40.00", 1), ("79.50", 1), ("80.00", 2), ("500.00", 10)],
)
def test_a_part_of_a_session_is_none(amount: str, sessions: int) -> None:
    assert sessions_for(Decimal("399.99"), 10, Decimal(amount)) == sessions


@pytest.mark.parametrize("unit", [YEN, Decimal("1.0"), Decimal("1.00")])
def test_yen_have_no_fraction(unit: Decimal) -> None:
    first = amount_for(
        Decimal(1000), 3, refunded_sessions=0, sessions=1, refunded_amount=Decimal(0), unit=unit
    )
    assert (first, sessions_for(Decimal(1000), 3, first)) == (Decimal(333), 1)
