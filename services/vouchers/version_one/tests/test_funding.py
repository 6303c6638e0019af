"""Which voucher pays for an open reservation of version 1."""

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.vouchers.version_one.funding import Purse, UnpaidReservation, allot

DAY = date(2030, 3, 1)
NOON = datetime(2030, 3, 1, 12, tzinfo=UTC)


def reservation(
    id_: int = 1,
    *,
    client: int = 7,
    class_id: int | None = 2,
    days: int = 0,
    code_voucher: int | None = None,
    used: bool = False,
) -> UnpaidReservation:
    moment = NOON + timedelta(days=days)
    return UnpaidReservation(
        id=id_,
        organization_id=1,
        client_id=client,
        therapy_class_id=class_id,
        starts_at=moment,
        day=moment.date(),
        code_voucher_id=code_voucher,
        is_code_used=used,
    )


def purse(
    id_: int = 1,
    *,
    client: int = 7,
    class_id: int | None = 2,
    days: int = 30,
    bookable: int = 1,
    organization: int = 1,
) -> Purse:
    return Purse(id_, organization, client, class_id, DAY + timedelta(days=days), bookable)


def test_the_voucher_that_ends_first_pays() -> None:
    assert allot([reservation()], [purse(1, days=30), purse(2, days=20)]) == {1: 2}


def test_the_voucher_of_the_code_pays_before_others() -> None:
    purses = [purse(1, days=1), purse(2, class_id=3, days=90)]
    assert allot([reservation(code_voucher=2)], purses) == {1: 2}


def test_a_code_whose_voucher_has_no_session_leaves_the_choice() -> None:
    purses = [purse(1), purse(2, bookable=0)]
    assert allot([reservation(code_voucher=2)], purses) == {1: 1}


def test_a_used_code_has_paid() -> None:
    assert allot([reservation(code_voucher=1, used=True)], [purse()]) == {1: None}


def test_the_earlier_session_is_served_first() -> None:
    assert allot([reservation(1, days=2), reservation(2, days=1)], [purse()]) == {1: None, 2: 1}


def test_who_does_not_pay() -> None:
    others = {
        "another client's": purse(client=8),
        "of another class": purse(class_id=3),
        "of no class": purse(class_id=None),
        "over by then": purse(days=-1),
        "used up": purse(bookable=0),
        "of another organization": purse(organization=2),
    }
    for name, other in others.items():
        assert allot([reservation()], [other]) == {1: None}, name


def test_a_voucher_pays_on_its_last_day() -> None:
    assert allot([reservation()], [purse(days=0)]) == {1: 1}


def test_without_a_class_only_a_code_names_the_voucher() -> None:
    purses = [purse(1, class_id=None), purse(2)]
    alone, by_code = reservation(1, class_id=None), reservation(2, class_id=None, code_voucher=2)
    assert allot([alone, by_code], purses) == {1: None, 2: 2}


_RESERVATIONS = st.builds(
    reservation,
    client=st.integers(1, 2),
    class_id=st.sampled_from([None, 2, 3]),
    days=st.integers(0, 5),
    code_voucher=st.sampled_from([None, 1, 2, 3]),
    used=st.booleans(),
)
_PURSES = st.builds(
    purse,
    client=st.integers(1, 2),
    class_id=st.sampled_from([None, 2, 3]),
    days=st.integers(-1, 6),
    bookable=st.integers(0, 2),
)


@given(st.lists(_RESERVATIONS, max_size=8), st.lists(_PURSES, max_size=4))
def test_no_voucher_pays_too_much_and_none_is_left_that_could(
    drawn: list[UnpaidReservation], purses: list[Purse]
) -> None:
    reservations = [replace(each, id=number) for number, each in enumerate(drawn, start=1)]
    for number, each in enumerate(purses, start=1):
        each.id = number
    before = deepcopy(purses)
    vouchers = allot(reservations, purses)
    assert vouchers.keys() == {each.id for each in reservations}
    for was, left in zip(before, purses, strict=True):
        assert was.bookable - left.bookable == list(vouchers.values()).count(was.id)
        assert left.bookable >= 0
    for reservation in reservations:
        if vouchers[reservation.id] is None and not reservation.is_code_used:
            assert not any(
                left.pays_for(reservation)
                and left.therapy_class_id == reservation.therapy_class_id is not None
                and left.valid_until >= reservation.day
                for left in purses
            )
