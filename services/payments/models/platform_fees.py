"""The operator's fee on the card payments of an organization."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from sqlalchemy import CheckConstraint, Numeric, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.payments.gateways import smallest_unit
from services.payments.models.base import Base
from shared.db import Entity

_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class FeeRate:
    """What the operator takes of a payment: a percentage, and a fixed amount in one currency."""

    percent: Decimal = Decimal(0)
    fixed_amount: Decimal = Decimal(0)
    fixed_currency: str | None = None

    def fee_of(self, amount: Decimal, currency: str) -> Decimal:
        """Return the fee of a payment, rounded half up to the currency's smallest unit.

        The fixed amount is a part of it only if the payment has its currency. The fee is never more
        than the payment.
        """
        fixed_part = self.fixed_amount if currency == self.fixed_currency else Decimal(0)
        unit = smallest_unit(currency)
        units = (amount * self.percent / _HUNDRED + fixed_part) / unit
        return min(units.quantize(Decimal(1), ROUND_HALF_UP) * unit, amount)


NO_FEE = FeeRate()


class PlatformFee(Entity, Base):
    """The fee rate of an organization, set by administrators. Without a row there is no fee."""

    __tablename__ = "platform_fees"
    __table_args__ = (
        UniqueConstraint("organization_id"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent_in_range"),
        CheckConstraint("fixed_amount >= 0", name="fixed_amount_not_negative"),
        CheckConstraint(
            "(fixed_amount > 0) = (fixed_currency IS NOT NULL)", name="fixed_has_currency"
        ),
    )
    entity_type = "platform_fee"

    organization_id: Mapped[int]
    percent: Mapped[Decimal] = mapped_column(Numeric(5, 2))
    fixed_amount: Mapped[Decimal]
    fixed_currency: Mapped[str | None]
