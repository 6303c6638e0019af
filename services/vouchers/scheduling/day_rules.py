"""What a voucher's terms allow on a day: its validity, freezes, weekdays and frequency."""

from collections.abc import Collection, Iterator
from datetime import date, timedelta
from itertools import chain

from services.vouchers.scheduling.periods import next_period_start, period_of
from services.vouchers.scheduling.reasons import BookingReason, ReasonCode, in_words
from services.vouchers.scheduling.snapshots import VoucherTerms

_ONE_DAY = timedelta(days=1)
_EVERY = {"weekly": "a week", "biweekly": "every two weeks"}
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def closed_by(voucher: VoucherTerms, day: date, taken: Collection[date]) -> BookingReason | None:
    """Return the first reason for which a voucher can book nothing on a day, or None.

    `taken` are the days that count for the voucher's frequency.
    """
    reasons = chain(
        reasons_of_validity(voucher, day),
        reasons_of_weekday(voucher, day),
        reasons_of_frequency(voucher, day, taken),
    )
    return next(reasons, None)


def reasons_of_validity(voucher: VoucherTerms, day: date) -> Iterator[BookingReason]:
    """Yield the reasons of a voucher's validity and freezes against a day."""
    if voucher.valid_from is not None and day < voucher.valid_from:
        detail = f"The voucher is valid from {in_words(voucher.valid_from)}. Choose a later day."
        yield BookingReason(ReasonCode.VOUCHER_NOT_YET_VALID, detail, voucher.valid_from)
    if voucher.valid_until is not None and day > voucher.valid_until:
        last_day = in_words(voucher.valid_until)
        detail = f"The voucher is valid until {last_day}. Choose an earlier day."
        yield BookingReason(ReasonCode.VOUCHER_EXPIRED, detail)
    elif voucher.status == "expired":
        yield BookingReason(ReasonCode.VOUCHER_EXPIRED, "The voucher is expired. Use another one.")
    freezes = sorted(voucher.freezes)
    for starts_on, ends_on in freezes:
        if starts_on <= day <= ends_on:
            until = day
            for first, last in freezes:
                if first <= until <= last:
                    until = last + _ONE_DAY
            span = f"from {in_words(starts_on)} to {in_words(ends_on)}"
            detail = f"The voucher is frozen {span}. Choose another day."
            yield BookingReason(ReasonCode.VOUCHER_FROZEN, detail, until)
            return


def weekdays_of(voucher: VoucherTerms) -> set[int]:
    """Return the ISO weekdays on which a voucher's sessions can take place."""
    days = set(range(1, 8))
    if voucher.custom_days:
        days &= set(voucher.custom_days)
    if voucher.hours is not None:
        days &= {hours.weekday for hours in voucher.hours}
    return days


def reasons_of_weekday(voucher: VoucherTerms, day: date) -> Iterator[BookingReason]:
    """Yield the reason against a day on whose weekday the voucher has no sessions."""
    weekdays = weekdays_of(voucher)
    if day.isoweekday() in weekdays:
        return
    if not weekdays:
        detail = "The booking rules of the voucher allow no weekday. Contact the organization."
        yield BookingReason(ReasonCode.WEEKDAY_NOT_ALLOWED, detail)
        return
    *others, last = (_WEEKDAYS[number - 1] for number in sorted(weekdays))
    names = f"{', '.join(others)} and {last}" if others else last
    detail = f"The sessions of this voucher are on {names}. Choose one of these days."
    week = (day + timedelta(days=number) for number in range(1, 8))
    until = next(later for later in week if later.isoweekday() in weekdays)
    yield BookingReason(ReasonCode.WEEKDAY_NOT_ALLOWED, detail, until)


def reasons_of_frequency(
    voucher: VoucherTerms, day: date, taken: Collection[date]
) -> Iterator[BookingReason]:
    """Yield the reason against a day whose period has a session already.

    `taken` are the days that count for the voucher's frequency.
    """
    frequency, valid_from = voucher.frequency, voucher.valid_from
    if frequency is None:
        return
    periods = {period_of(frequency, other, valid_from): other for other in sorted(taken)}
    other = periods.get(period_of(frequency, day, valid_from))
    if other is None:
        return
    until = next_period_start(frequency, day, valid_from)
    while period_of(frequency, until, valid_from) in periods:
        until = next_period_start(frequency, until, valid_from)
    rule = f"One session {_EVERY.get(frequency, 'a day')}"
    detail = f"{rule}: {in_words(other)} is taken. Choose a day from {in_words(until)}."
    yield BookingReason(ReasonCode.FREQUENCY_REACHED, detail, until)
