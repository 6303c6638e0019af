"""Every reason why a session cannot be booked: its code, its sentence, and until when it holds."""

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.vouchers.scheduling.day_rules import closed_by
from services.vouchers.scheduling.eligibility import days_taken, reasons_against, remaining
from services.vouchers.scheduling.reasons import (
    OVERRIDABLE,
    BookingReason,
    ReasonCode,
    duration_in_words,
)
from services.vouchers.scheduling.snapshots import (
    BookingSnapshot,
    ClientReservation,
    RequestedSession,
    VoucherTerms,
)
from services.vouchers.scheduling.windows import WeeklyHours

WARSAW = ZoneInfo("Europe/Warsaw")
NOW = datetime(2026, 6, 1, 8, tzinfo=WARSAW)  # a Monday
START = datetime(2026, 6, 4, 10, tzinfo=WARSAW)  # a Thursday
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Limits:
    opens_days: int = 60
    closes_minutes: int = 60
    max_open: int | None = None


VOUCHER = VoucherTerms(
    status="active",
    is_disputed=False,
    sessions_left=8,
    booked_sessions=2,
    valid_from=date(2026, 6, 1),
    valid_until=date(2026, 8, 31),
    frequency="weekly",
    hours=tuple(WeeklyHours(weekday, 480, 1200) for weekday in range(1, 6)),
    max_clients=1,
    voucher_type_id=3,
)
SNAPSHOT = BookingSnapshot(
    now=NOW,
    zone=WARSAW,
    is_organization_active=True,
    is_client_active=True,
    voucher=VOUCHER,
    limits=Limits(),
    session=RequestedSession(START, START + HOUR),
)


def reservation(starts_at: datetime, status: str = "booked", **values: Any) -> ClientReservation:
    fields = {"session_id": 90, "is_of_voucher": True} | values
    return ClientReservation(status=status, starts_at=starts_at, ends_at=starts_at + HOUR, **fields)


def with_voucher(**changes: Any) -> BookingSnapshot:
    return replace(SNAPSHOT, voucher=replace(VOUCHER, **changes))


def with_session(**changes: Any) -> BookingSnapshot:
    return replace(SNAPSHOT, session=replace(SNAPSHOT.session, **changes))


def at(starts_at: datetime, length: timedelta = HOUR, **changes: Any) -> BookingSnapshot:
    session = RequestedSession(starts_at, starts_at + length)
    return replace(SNAPSHOT, session=session, voucher=replace(VOUCHER, **changes))


def with_reservations(*reservations: ClientReservation, **changes: Any) -> BookingSnapshot:
    return replace(SNAPSHOT, reservations=reservations, **changes)


def codes(snapshot: BookingSnapshot) -> list[str]:
    return [reason.code for reason in reasons_against(snapshot)]


def the_reason(snapshot: BookingSnapshot) -> BookingReason:
    (reason,) = reasons_against(snapshot)
    return reason


FREEZE = (date(2026, 6, 3), date(2026, 6, 4))
NEXT_FREEZE = (date(2026, 6, 5), date(2026, 6, 9))
MID_JULY = datetime(2026, 7, 15, 10, tzinfo=WARSAW)
MID_AUGUST = datetime(2026, 8, 14, 10, tzinfo=WARSAW)
SATURDAY = datetime(2026, 6, 6, 10, tzinfo=WARSAW)

SINGLE = {
    "organization_inactive": (replace(SNAPSHOT, is_organization_active=False), None),
    "client_inactive": (replace(SNAPSHOT, is_client_active=False), None),
    "voucher_unpaid": (with_voucher(status="pending", valid_from=None, valid_until=None), None),
    "voucher_cancelled": (with_voucher(status="cancelled"), None),
    "voucher_disputed": (with_voucher(is_disputed=True), None),
    "voucher_exhausted": (with_voucher(sessions_left=0, booked_sessions=0), None),
    "sessions_booked": (with_voucher(sessions_left=2), None),
    "voucher_not_yet_valid": (with_voucher(valid_from=date(2026, 6, 5)), date(2026, 6, 5)),
    "voucher_expired": (with_voucher(valid_until=date(2026, 6, 3)), None),
    "voucher_frozen": (with_voucher(freezes=[NEXT_FREEZE, FREEZE]), date(2026, 6, 10)),
    "session_cancelled": (with_session(session_id=91, is_cancelled=True), None),
    "session_past": (at(NOW), None),
    "too_early": (at(MID_AUGUST), date(2026, 6, 15)),
    "too_late": (at(NOW + HOUR - timedelta(seconds=1)), None),
    "wrong_class": (with_session(class_type_ids={4, 5}), None),
    "wrong_size": (with_session(capacity=2), None),
    "weekday_not_allowed": (at(SATURDAY), date(2026, 6, 8)),
    "outside_booking_rules": (at(START.replace(hour=19, minute=30)), None),
    "frequency_reached": (with_reservations(reservation(START - DAY)), date(2026, 6, 8)),
    "max_open_reached": (
        with_reservations(reservation(MID_JULY), limits=Limits(max_open=1)),
        date(2026, 7, 15),
    ),
    "already_reserved": (
        replace(
            with_session(session_id=90, capacity=1),
            reservations=(reservation(START, "waitlisted"),),
        ),
        None,
    ),
    "client_busy": (with_reservations(reservation(START + HOUR / 2, is_of_voucher=False)), None),
    "therapist_unavailable": (with_session(is_therapist_available=False), None),
    "slot_taken": (with_session(is_therapist_free=False), None),
    "room_taken": (with_session(is_room_free=False), None),
    "session_full": (with_session(seats_taken=1), None),
}


def test_a_session_with_nothing_against_it_can_be_booked() -> None:
    assert reasons_against(SNAPSHOT) == []


def test_each_code_is_tried() -> None:
    assert list(SINGLE) == list(ReasonCode)


@pytest.mark.parametrize("code", ReasonCode)
def test_a_reason_is_reported_alone_with_a_sentence(code: ReasonCode) -> None:
    snapshot, until = SINGLE[code]
    reason = the_reason(snapshot)
    assert (reason.code, reason.until) == (code, until)
    assert reason.is_overridable == (code in OVERRIDABLE)
    assert re.fullmatch(r"[A-Z].*\.", reason.detail)


def test_all_reasons_are_reported_in_their_order() -> None:
    saturday = datetime(2026, 9, 5, 23, 30, tzinfo=WARSAW)
    session = RequestedSession(
        saturday,
        saturday + HOUR,
        capacity=2,
        seats_taken=2,
        session_id=91,
        is_cancelled=True,
        class_type_ids={4},
        is_therapist_available=False,
        is_therapist_free=False,
        is_room_free=False,
    )
    voucher = replace(
        VOUCHER,
        status="cancelled",
        is_disputed=True,
        booked_sessions=8,
        freezes=[(date(2026, 9, 1), date(2026, 9, 30))],
    )
    reported = codes(
        BookingSnapshot(
            NOW,
            WARSAW,
            False,
            False,
            voucher,
            Limits(max_open=1),
            session,
            [reservation(saturday - DAY), reservation(saturday)],
        )
    )
    assert reported == [code for code in ReasonCode if code in reported]
    assert set(ReasonCode) - set(reported) == {
        ReasonCode.VOUCHER_UNPAID,
        ReasonCode.VOUCHER_EXHAUSTED,
        ReasonCode.VOUCHER_NOT_YET_VALID,
        ReasonCode.SESSION_PAST,
        ReasonCode.TOO_LATE,
        ReasonCode.OUTSIDE_BOOKING_RULES,
        ReasonCode.ALREADY_RESERVED,
    }


def test_staff_override_some_reasons_and_never_the_others() -> None:
    reasons = reasons_against(
        replace(
            with_reservations(reservation(START - DAY)),
            session=with_session(is_therapist_free=False, is_therapist_available=False).session,
        )
    )
    left = remaining(reasons, ["frequency_reached", "therapist_unavailable", "slot_taken"])
    assert [reason.code for reason in left] == ["slot_taken"]
    assert remaining(reasons, []) == reasons


@pytest.mark.parametrize(
    ("starts_at", "expected"),
    [
        (datetime(2026, 8, 31, 23, tzinfo=WARSAW), []),
        (datetime(2026, 9, 1, 0, tzinfo=WARSAW), ["voucher_expired"]),
    ],
)
def test_a_session_on_the_last_day_may_end_after_midnight(
    starts_at: datetime, expected: list[str]
) -> None:
    snapshot = replace(at(starts_at, 2 * HOUR, hours=None), now=starts_at - 2 * DAY)
    assert codes(snapshot) == expected


def test_a_freeze_of_one_day_closes_that_day() -> None:
    freeze = (date(2026, 6, 4), date(2026, 6, 4))
    assert the_reason(with_voucher(freezes=[freeze])).until == date(2026, 6, 5)
    assert codes(at(START - DAY, freezes=[freeze])) == []
    assert codes(at(START + DAY, freezes=[freeze])) == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("waitlisted", []),
        ("held", ["frequency_reached"]),
        ("booked", ["frequency_reached"]),
        ("attended", ["frequency_reached"]),
        ("no_show", []),
        ("late_cancelled", []),
        ("cancelled", []),
    ],
)
def test_a_missed_or_cancelled_session_frees_its_week(status: str, expected: list[str]) -> None:
    assert codes(with_reservations(reservation(START - DAY, status))) == expected


def test_a_session_that_was_redeemed_without_a_booking_counts_for_its_week() -> None:
    reason = the_reason(replace(SNAPSHOT, redeemed_days={date(2026, 6, 1)}))
    assert (
        reason.detail == "One session a week: 1 June 2026 is taken. Choose a day from 8 June 2026."
    )


def test_the_next_free_week_is_after_all_that_are_taken() -> None:
    weeks = [reservation(START + 7 * number * DAY - DAY) for number in (0, 1, 3)]
    assert the_reason(with_reservations(*weeks)).until == date(2026, 6, 15)


def test_reservations_of_other_vouchers_count_for_the_clients_time_alone() -> None:
    other = reservation(START - DAY, is_of_voucher=False)
    assert codes(with_reservations(other, limits=Limits(max_open=1))) == []
    assert days_taken(with_reservations(other)) == set()


def test_adjacent_sessions_of_a_client_do_not_overlap() -> None:
    around = [reservation(START + step, is_of_voucher=False) for step in (-HOUR, HOUR)]
    assert codes(with_reservations(*around)) == []
    same = reservation(START, is_of_voucher=False, may_overlap=True)
    assert codes(with_reservations(same)) == []


def test_open_reservations_count_until_they_end() -> None:
    past = reservation(NOW - 2 * HOUR, "booked")
    snapshot = with_reservations(past, limits=Limits(max_open=1))
    assert "max_open_reached" not in codes(snapshot)


def test_booking_opens_at_midnight_and_closes_to_the_second() -> None:
    edge = datetime(2026, 7, 31, 19, tzinfo=WARSAW)
    assert codes(at(edge)) == []
    assert codes(at(edge + 3 * DAY)) == ["too_early"]
    assert codes(at(NOW + HOUR)) == []


@pytest.mark.parametrize(
    ("starts_at", "length", "expected"),
    [
        (datetime(2026, 6, 4, 8, tzinfo=WARSAW), HOUR, []),
        (datetime(2026, 6, 4, 19, tzinfo=WARSAW), HOUR, []),
        (datetime(2026, 6, 4, 7, 59, tzinfo=WARSAW), HOUR, ["outside_booking_rules"]),
        (datetime(2026, 6, 4, 19, 1, tzinfo=WARSAW), HOUR, ["outside_booking_rules"]),
        (datetime(2026, 6, 4, 19, tzinfo=WARSAW), 14 * HOUR, ["outside_booking_rules"]),
    ],
)
def test_the_whole_session_is_within_the_booking_rules(
    starts_at: datetime, length: timedelta, expected: list[str]
) -> None:
    assert codes(at(starts_at, length)) == expected


def test_the_rules_are_read_on_the_organizations_clock() -> None:
    """23:00 UTC on Sunday is 01:00 on Monday in Warsaw."""
    monday_night = datetime(2026, 6, 7, 23, tzinfo=ZoneInfo("UTC"))
    assert codes(at(monday_night, hours=[WeeklyHours(1, 60, 120)])) == []
    assert codes(at(monday_night, hours=[WeeklyHours(7, 0, 1440)])) == ["weekday_not_allowed"]


@pytest.mark.parametrize(
    ("custom_days", "hours", "detail", "until"),
    [
        ([3, 5], None, "on Wednesdays and Fridays.", date(2026, 6, 5)),
        ([3], None, "on Wednesdays.", date(2026, 6, 10)),
        ([1, 2, 3], None, "on Mondays, Tuesdays and Wednesdays.", date(2026, 6, 8)),
        ([3, 5], [WeeklyHours(5, 0, 1440)], "on Fridays.", date(2026, 6, 5)),
        ([3], [WeeklyHours(5, 0, 1440)], "allow no weekday.", None),
    ],
)
def test_custom_days_and_rules_limit_the_weekday(
    custom_days: list[int], hours: list[WeeklyHours] | None, detail: str, until: date | None
) -> None:
    snapshot = with_voucher(frequency="custom", custom_days=custom_days, hours=hours)
    reason = the_reason(snapshot)
    assert reason.code == "weekday_not_allowed"
    assert detail in reason.detail
    assert reason.until == until


@pytest.mark.parametrize(
    ("most", "capacity", "expected"),
    [
        (1, 1, []),
        (1, 2, ["wrong_size"]),
        (6, 1, ["wrong_size"]),
        (6, 2, []),
        (6, 6, []),
        (6, 7, ["wrong_size"]),
        (None, 7, []),
    ],
)
def test_a_voucher_for_one_is_not_for_groups(
    most: int | None, capacity: int, expected: list[str]
) -> None:
    snapshot = replace(with_session(capacity=capacity), voucher=replace(VOUCHER, max_clients=most))
    assert codes(snapshot) == expected


def test_a_voucher_of_version_1_is_for_its_class() -> None:
    old = replace(VOUCHER, max_clients=None, voucher_type_id=None, therapy_class_id=7)
    own = with_session(session_id=91, therapy_class_id=7, capacity=9)
    other = with_session(session_id=91, therapy_class_id=8, capacity=9)
    assert codes(replace(own, voucher=old)) == []
    assert codes(replace(other, voucher=old)) == ["wrong_class"]


def test_a_therapist_gives_sessions_of_some_types() -> None:
    assert codes(with_session(therapist_type_ids={3})) == []
    assert codes(with_session(therapist_type_ids={4})) == ["wrong_class"]


def test_an_expired_voucher_is_not_bookable_within_its_days() -> None:
    assert codes(with_voucher(status="expired")) == ["voucher_expired"]


@pytest.mark.parametrize(
    ("day", "code"),
    [
        (date(2026, 5, 31), "voucher_not_yet_valid"),
        (date(2026, 6, 3), "voucher_frozen"),
        (date(2026, 6, 6), "weekday_not_allowed"),
        (date(2026, 6, 8), "frequency_reached"),
        (date(2026, 6, 15), None),
        (date(2026, 9, 1), "voucher_expired"),
    ],
)
def test_a_day_of_a_month_view_has_the_reason_that_closes_it(day: date, code: str | None) -> None:
    voucher = replace(VOUCHER, freezes=[FREEZE])
    reason = closed_by(voucher, day, {date(2026, 6, 12)})
    assert (reason and reason.code) == code


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0, "0 minutes"),
        (1, "1 minute"),
        (60, "1 hour"),
        (90, "90 minutes"),
        (120, "2 hours"),
        (1440, "1 day"),
        (2880, "2 days"),
    ],
)
def test_a_duration_is_in_the_largest_whole_unit(minutes: int, words: str) -> None:
    assert duration_in_words(minutes) == words
