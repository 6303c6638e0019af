"""The least validity of vouchers, which their validity never undercuts. Pure functions.

It is a number of months from the first day of the validity or, as for paid vouchers in Germany
(BGB §§ 195, 199: three years), a number of years until the end of the year after the year of the
purchase.
"""

from calendar import monthrange
from datetime import date, timedelta

MAX_MONTHS = 120
MAX_YEARS = 10

# 2100 is no leap year, so the periods that begin here are as short as any of their length.
_MONTHS = [date(2096 + (month > 12), (month - 1) % 12 + 1, 1) for month in range(3, 15)]
_END_OF_YEAR = date(2096, 12, 31)


def least_last_day(
    first_day: date, purchase_date: date, *, months: int | None, years: int | None
) -> date | None:
    """Return the earliest last day that a voucher may have, or None without a least validity."""
    if months is not None:
        return _last_day_of(first_day, months)
    if years is not None:
        return date(purchase_date.year + years, 12, 31)
    return None


def shortest_validity(*, months: int | None, years: int | None) -> int:
    """Return the days of the shortest validity that a least validity allows on any day of sale."""
    if months is not None:
        return min((_last_day_of(first, months) - first).days + 1 for first in _MONTHS)
    if years is not None:
        last_day = date(_END_OF_YEAR.year + years, 12, 31)
        return (last_day - _END_OF_YEAR).days + 1
    return 1


def _last_day_of(first_day: date, months: int) -> date:
    """Return the last day of a period of months (BGB § 188: the end of a month that is shorter)."""
    year, month = divmod(first_day.year * 12 + first_day.month - 1 + months, 12)
    length = monthrange(year, month + 1)[1]
    if first_day.day > length:
        return date(year, month + 1, length)
    return date(year, month + 1, first_day.day) - timedelta(days=1)
