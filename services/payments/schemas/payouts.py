"""Bodies of payouts, their lines and monthly statements."""

from datetime import date, datetime

from pydantic import BaseModel

from services.payments.gateways import LineKind, PayoutStatus
from services.payments.models import Reconciliation
from shared.money import Money


class PayoutRead(BaseModel):
    """Money that the gateway sends to the organization's bank.

    `difference` is the amount less the sum of its lines, null if there is nothing to compare.
    """

    id: int
    gateway_payout_id: str
    gateway_account: str
    amount: Money
    currency: str
    status: PayoutStatus
    is_automatic: bool
    initiated_at: datetime
    arrival_date: date | None
    failure_code: str | None
    failure_message: str | None
    reconciliation: Reconciliation
    difference: Money | None
    unknown_lines: int


class PayoutLineRead(BaseModel):
    """One part of a payout: `amount` less both fees is `net`.

    `is_known` states that the organization's books have it with the same amount.
    """

    gateway_line_id: str
    kind: LineKind
    occurred_at: datetime
    currency: str
    amount: Money
    gateway_fee: Money
    platform_fee: Money
    net: Money
    is_known: bool
    transaction_id: int | None
    refund_id: int | None
    dispute_id: int | None
    gateway_source_id: str | None


class PayoutDetail(PayoutRead):
    """A payout with its lines, oldest first."""

    lines: list[PayoutLineRead]


class StatementRead(BaseModel):
    """A month of an account in one currency: the opening balance and all sums are the closing one.

    `other` is the amount of the lines that the organization's books do not have.
    """

    month: str
    time_zone: str
    gateway_account: str
    currency: str
    opening_balance: Money
    payments: Money
    refunds: Money
    disputes: Money
    gateway_fees: Money
    platform_fees: Money
    payouts: Money
    other: Money
    closing_balance: Money
    unknown_lines: int
