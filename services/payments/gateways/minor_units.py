"""Minor units: 399.99 USD are 39999 cents, 400 JPY are 400 yen.

The exceptions are Stripe's list, https://docs.stripe.com/currencies (zero- and three-decimal).
"""

from decimal import Decimal

from shared.currencies import WITHOUT_CENTS

_ZERO_DECIMAL = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
_THREE_DECIMAL = "BHD JOD KWD OMR TND"
_FACTORS = dict.fromkeys(_ZERO_DECIMAL.split(), 1) | dict.fromkeys(_THREE_DECIMAL.split(), 1000)


class NotInMinorUnits(ValueError):
    """The amount has a fraction that its currency does not have."""


def _factor(currency: str) -> int:
    return _FACTORS.get(currency, 100)


def to_minor(amount: Decimal, currency: str) -> int:
    """Return an amount in minor units; raises NotInMinorUnits."""
    minor = amount * _factor(currency)
    if minor != minor.to_integral_value():
        raise NotInMinorUnits(f"{currency} has no fraction of {amount}")
    return int(minor)


def from_minor(minor: int, currency: str) -> Decimal:
    """Return an amount in the currency's major unit."""
    return Decimal(minor) / _factor(currency)


def smallest_unit(currency: str) -> Decimal:
    """Return the smallest amount of a currency that our books and its gateway both can hold."""
    return Decimal(1) if currency in WITHOUT_CENTS else Decimal("0.01")
