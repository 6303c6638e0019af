"""The interface of a payment gateway, and the reports in which it answers.

Amounts are in the currency's major unit, exact; currencies are ISO 4217 in upper case.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class GatewayAccount:
    """The account at a gateway that receives a payment.

    `id` names the account of one organization that is connected to the installation's own account.
    It is None for the installation's own account.
    """

    id: str | None


INSTALLATION_ACCOUNT = GatewayAccount(None)
"""The installation's own account. Only a payment that is charged in the mode `installation`, and
what such a payment leads to later, belongs to it."""


class PaymentOutcome(StrEnum):
    """The state of a payment at its gateway."""

    PREPARED = "prepared"  # stored by the gateway, nothing was charged
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RefundOutcome(StrEnum):
    """The state of a refund at its gateway."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a payment or a refund failed; the message is shown to users."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RefundReport:
    """A gateway's report of one refund; `refund_id` is our id if we created the refund."""

    gateway_id: str
    outcome: RefundOutcome
    amount: Decimal
    currency: str
    refund_id: int | None = None
    payment_id: str | None = None
    account: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PaymentReport:
    """A gateway's report of one payment, in an answer or a webhook.

    `transaction_id` and `voucher_id` are ours, as far as the gateway stored them with the payment.
    `refunded` is the sum of all refunds so far; `refunds` are the refunds that it consists of, or
    None where the gateway reported only the sum. `fee` is what the operator takes of the payment.
    """

    gateway_id: str
    outcome: PaymentOutcome
    amount: Decimal
    currency: str
    captured: Decimal = Decimal(0)
    fee: Decimal = Decimal(0)
    refunded: Decimal = Decimal(0)
    refunds: tuple[RefundReport, ...] | None = ()
    live: bool = False
    account: str | None = None
    transaction_id: int | None = None
    voucher_id: int | None = None
    failure: Failure | None = None
    next_action: Mapping[str, Any] | None = field(default=None, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


class DisputeOutcome(StrEnum):
    """The state of a dispute at its gateway; `won` means that we keep the money."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class DisputeReport:
    """A gateway's report of one dispute of one payment."""

    gateway_id: str
    payment_id: str
    outcome: DisputeOutcome
    amount: Decimal
    currency: str
    reason: str | None = None
    live: bool = False
    account: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


class CardOutcome(StrEnum):
    """The state of a card at its gateway."""

    PREPARED = "prepared"  # known to the gateway, not stored yet
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    STORED = "stored"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class CardReport:
    """A gateway's report of one card that is stored or to be stored.

    `setup_id` is the gateway's id of the attempt to store the card, and `method_id` of the card
    itself, once it is known. `card_id` is our id. Years have four digits.
    """

    setup_id: str
    outcome: CardOutcome
    account: str | None = None
    live: bool = False
    card_id: int | None = None
    method_id: str | None = None
    brand: str | None = None
    last4: str | None = None
    exp_month: int | None = None
    exp_year: int | None = None
    failure: Failure | None = None
    next_action: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AccountReport:
    """A gateway's report of one connected account.

    `requirements` lists, in the gateway's words, what it wants to know of the organization now.
    `disabled_reason` is why the account may not charge. `is_connected` is False in the report that
    the installation was disconnected from the account; the other fields mean nothing then.
    """

    gateway_id: str
    charges_enabled: bool = False
    payouts_enabled: bool = False
    requirements: tuple[str, ...] = ()
    disabled_reason: str | None = None
    country: str | None = None
    currency: str | None = None
    live: bool = False
    is_connected: bool = True


@dataclass(frozen=True, slots=True)
class PayoutNotice:
    """A gateway's report that a payout of an account has changed; only the gateway knows how."""

    gateway_id: str
    account: str | None


WebhookReport = (
    PaymentReport | RefundReport | DisputeReport | CardReport | AccountReport | PayoutNotice
)
"""What a webhook may report."""


@dataclass(frozen=True, slots=True)
class ChargeOrder:
    """What the gateway is to charge, on which account.

    `transaction_id` is None when the payment is prepared before it is stored, as the first attempt
    of a voucher is. A gateway that names payments itself uses `reference`, which is never None.
    `fee` is the part of the amount that the installation's own account receives; it is zero unless
    the payment is charged on a connected account.
    """

    account: GatewayAccount
    transaction_id: int | None
    voucher_id: int
    organization_id: int
    amount: Decimal
    currency: str
    description: str
    fee: Decimal = Decimal(0)

    @property
    def reference(self) -> str:
        """A name of the payment that no payment of another voucher has."""
        if self.transaction_id is None:
            return f"voucher-{self.voucher_id}"
        return str(self.transaction_id)


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """What the gateway is to refund, from which account.

    With `returns_fee` the operator's fee is returned to the account in proportion.
    """

    account: GatewayAccount
    refund_id: int
    amount: Decimal
    currency: str
    returns_fee: bool = False


@dataclass(frozen=True, slots=True)
class WebhookNotice:
    """The identity of a webhook whose signature is the gateway's.

    `account` is the connected account that it is about, None for the installation's own.
    """

    event_id: str
    type: str
    signed_at: datetime
    account: str | None = None


CARD_TOKEN_UNKNOWN = Failure(
    "card_token_unknown", "The card token is unknown or was used already: enter the card again."
)
"""The failure that every gateway reports for a token without a card: no card was declined."""

ACCOUNT_CANNOT_CHARGE = Failure(
    "cards_not_available",
    "The organization cannot take card payments at present. Choose another method of payment.",
)
"""The failure that every gateway reports for an account that may not charge: nothing was charged
and no card was declined."""


def currency_not_supported(currency: str) -> Failure:
    """Return the failure that a gateway reports for an account that cannot charge a currency."""
    return Failure(
        CURRENCY_NOT_SUPPORTED,
        f"The organization cannot take card payments in {currency}. Choose another method of"
        " payment.",
    )


CURRENCY_NOT_SUPPORTED = "currency_not_supported"

MESSAGES_FOR_STAFF: Mapping[str, str] = {
    ACCOUNT_CANNOT_CHARGE.code: (
        "The organization's account at the payment gateway could not charge. Its state shows what"
        " it lacks."
    ),
    CURRENCY_NOT_SUPPORTED: (
        "The organization's account at the payment gateway cannot charge this currency. Enable it"
        " there, or sell in a currency of the account's country."
    ),
}
"""What staff read instead of the message to the payer, by the code of a failure."""


class GatewayUnavailable(Exception):
    """The gateway did not answer, or refused for a reason that is not the payer's.

    Whether the request had its effect is unknown: ask again before repeating it.
    """


class AccountNotAccessible(GatewayUnavailable):
    """The gateway does not let this installation use a connected account, or not any more."""


class GatewayRefused(Exception):
    """The gateway refused a request permanently; nothing was charged by it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code)
        self.failure = failure


class WebhookRefused(Exception):
    """A webhook's signature is not the gateway's, or too old, or its body cannot be read."""


class Gateway(Protocol):
    """Any way to take money; `name` is the name of its file and the value in our rows."""

    name: str

    async def refund(self, gateway_id: str | None, order: RefundOrder) -> RefundReport:
        """Give money back, once per refund id wherever the gateway can promise that.

        Raises GatewayUnavailable and GatewayRefused.
        """
        ...

    async def refunds_of(self, account: GatewayAccount, gateway_id: str) -> list[RefundReport]:
        """Return every refund of a payment.

        Raises GatewayUnavailable, and GatewayRefused when the gateway does not know the payment.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


@runtime_checkable
class OnlineGateway(Gateway, Protocol):
    """A gateway that charges by itself and reports it by webhook.

    Every call names the account whose books it concerns. A gateway without connected accounts
    receives the installation's own account only.

    A charge has two steps so that it cannot happen twice: `prepare` moves no money and may be
    repeated; only an id that is stored in our books is confirmed, and a gateway confirms a payment
    once. What was prepared and never stored is never paid.
    """

    live: bool

    async def prepare(self, order: ChargeOrder, token: SecretStr) -> PaymentReport:
        """Create the payment at the gateway; nothing is charged.

        It may be called several times for one payment, and the payment may never be stored: what
        was prepared must have no effect until `confirm`. Raises GatewayUnavailable and
        GatewayRefused.
        """
        ...

    async def confirm(self, account: GatewayAccount, gateway_id: str) -> PaymentReport:
        """Charge a prepared payment, or report its state; raises GatewayUnavailable."""
        ...

    async def look_up(self, account: GatewayAccount, gateway_id: str) -> PaymentReport:
        """Report the state of a payment; raises GatewayUnavailable."""
        ...

    async def cancel(self, account: GatewayAccount, gateway_id: str) -> PaymentReport:
        """Make sure a payment can no longer be charged, or report that it was already.

        Raises GatewayUnavailable.
        """
        ...

    def refunds_since(
        self, account: GatewayAccount, instant: datetime
    ) -> AsyncIterator[RefundReport]:
        """Yield the refunds made since, in any order; raises GatewayUnavailable."""
        ...

    def events_since(
        self, account: GatewayAccount, instant: datetime
    ) -> AsyncIterator[tuple[WebhookNotice, bytes]]:
        """Yield the events of the webhooks since; raises GatewayUnavailable."""
        ...

    def verify(
        self, body: bytes, headers: Mapping[str, str], moment: datetime, *, connected: bool = False
    ) -> WebhookNotice:
        """Return the identity of a signed webhook; raises WebhookRefused.

        With `connected` it was sent to the address for events of connected accounts.
        """
        ...

    def read(self, body: bytes) -> WebhookReport | None:
        """Return what a verified webhook reports, or None when we do not use it."""
        ...


@runtime_checkable
class BrowserGateway(OnlineGateway, Protocol):
    """A gateway for which a payer's browser makes the tokens of cards, with a key of its own.

    `publishable_key` is None if the operator has not set it: only API clients can pay then.
    """

    publishable_key: str | None
