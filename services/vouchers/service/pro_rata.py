"""What sessions are worth, and how many an amount of money pays for. Pure."""

from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal

RULE = "pro_rata_of_unused_regular_sessions"

ALMOST = Decimal("0.01")
"""A share of a session: what rounding may lack of a whole one."""


def worth(price: Decimal, total: int, sessions: int, unit: Decimal) -> Decimal:
    """Return what some of a voucher's `total` sessions cost, in whole `unit`s of its currency."""
    units = price * sessions / total / unit
    # Not quantize(unit): a unit of 1.00 is as much as one of 1, and would leave two decimals.
    return units.to_integral_value(ROUND_HALF_UP) * unit


def amount_for(
    price: Decimal, total: int, *, given_back: int, sessions: int, paid_back: Decimal, unit: Decimal
) -> Decimal:
    """Return what giving back `sessions` more brings, when `paid_back` went back for `given_back`.

    The whole is rounded and not each part: all parts together are never more than the price, and
    money that went back for no session counts against what is still to come.
    """
    return max(worth(price, total, given_back + sessions, unit) - paid_back, Decimal(0))


def sessions_for(price: Decimal, total: int, amount: Decimal) -> int:
    """Return how many of a voucher's `total` sessions an amount pays for in full."""
    if price <= 0:
        return 0
    whole = (amount * total / price + ALMOST).to_integral_value(ROUND_FLOOR)
    return min(int(whole), total)
