"""What sessions are worth, and how many sessions an amount pays for. Pure functions."""

from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal

RULE = "pro_rata_of_unused_regular_sessions"

ROUNDING_SLACK = Decimal("0.01")
"""The fraction of a session that an amount may lack because it was rounded."""


def worth(price: Decimal, total: int, sessions: int, unit: Decimal) -> Decimal:
    """Return what some of a voucher's `total` sessions cost, in whole `unit`s of its currency."""
    units = price * sessions / total / unit
    # Not quantize(unit): a unit of 1.00 is as much as one of 1, and would leave two decimals.
    return units.to_integral_value(ROUND_HALF_UP) * unit


def amount_for(
    price: Decimal,
    total: int,
    *,
    refunded_sessions: int,
    sessions: int,
    refunded_amount: Decimal,
    unit: Decimal,
) -> Decimal:
    """Return the refund for `sessions` more, after `refunded_amount` for `refunded_sessions`.

    The sum is rounded and not each part, so that all refunds together never exceed the price.
    Money that was refunded without sessions reduces what is refunded later.
    """
    return max(
        worth(price, total, refunded_sessions + sessions, unit) - refunded_amount, Decimal(0)
    )


def sessions_for(price: Decimal, total: int, amount: Decimal) -> int:
    """Return how many of a voucher's `total` sessions an amount pays for in full."""
    if price <= 0:
        return 0
    whole = (amount * total / price + ROUNDING_SLACK).to_integral_value(ROUND_FLOOR)
    return min(int(whole), total)
