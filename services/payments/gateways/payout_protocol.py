"""What a gateway with connected accounts reports of the money that it pays out to their owners.

Amounts are in the currency's major unit, exact; currencies are ISO 4217 in upper case.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable

from services.payments.gateways.protocol import GatewayAccount, OnlineGateway


class PayoutStatus(StrEnum):
    """The state of a payout at its gateway."""

    PENDING = "pending"
    IN_TRANSIT = "in_transit"
    PAID = "paid"
    FAILED = "failed"  # also after it was paid, when the owner's bank returns it
    CANCELLED = "cancelled"


class LineKind(StrEnum):
    """What changed the balance of an account."""

    PAYMENT = "payment"
    REFUND = "refund"
    REFUND_RETURN = "refund_return"  # the payer's bank did not accept a refund
    DISPUTE = "dispute"  # money that a bank takes, or returns
    PAYOUT = "payout"
    PAYOUT_RETURN = "payout_return"  # a payout failed or was cancelled
    GATEWAY_FEE = "gateway_fee"  # what the gateway takes beside the fees of payments
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class BalanceLine:
    """One change of the balance of an account: `amount` less both fees is `net`.

    `source_id` is the gateway's id of the charge, refund, dispute or payout that it is about, and
    `payment_id` the gateway's id of the payment. `platform_fee` is the operator's.
    """

    gateway_id: str
    kind: LineKind
    currency: str
    amount: Decimal
    gateway_fee: Decimal
    platform_fee: Decimal
    net: Decimal
    occurred_at: datetime
    source_id: str | None = None
    payment_id: str | None = None


@dataclass(frozen=True, slots=True)
class PayoutReport:
    """A gateway's report of one payout.

    `lines` are the changes of the balance that it consists of, oldest first. `is_listed` states
    that the gateway has listed all of them. A payout that is not `automatic` is of an amount that
    the owner chose: no gateway lists lines for it.
    """

    gateway_id: str
    account: str
    status: PayoutStatus
    amount: Decimal
    currency: str
    is_automatic: bool
    is_listed: bool
    initiated_at: datetime
    arrival_date: date | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    live: bool = False
    lines: tuple[BalanceLine, ...] = ()


@runtime_checkable
class PayoutGateway(OnlineGateway, Protocol):
    """An online gateway with connected accounts, to whose owners it pays out by itself."""

    async def look_up_payout(self, account: GatewayAccount, gateway_id: str) -> PayoutReport:
        """Report a payout with its lines; raises GatewayUnavailable."""
        ...

    def payouts_since(
        self, account: GatewayAccount, instant: datetime
    ) -> AsyncIterator[PayoutReport]:
        """Yield the payouts initiated since, without lines; raises GatewayUnavailable."""
        ...

    def balance_since(
        self, account: GatewayAccount, instant: datetime
    ) -> AsyncIterator[BalanceLine]:
        """Yield every change of the account's balance since, newest first.

        Raises GatewayUnavailable.
        """
        ...
