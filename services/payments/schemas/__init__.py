"""Bodies of requests and responses."""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from services.payments.models import Method, RepaymentReason, RepaymentStatus
from shared.card_tokens import CardToken
from shared.fields import BodyId, Choice, Currency, KnownTimeZone, RequestBody, ServiceData, Text
from shared.money import Money, amount_schema

Price = Annotated[Money, Field(ge=0)]
RefundAmount = Annotated[Money, Field(gt=0), amount_schema(minimum=0.01, maximum=9_999_999_999.99)]


Percent = Annotated[Money, Field(ge=0, le=100), amount_schema(minimum=0, maximum=100)]


class Buyer(ServiceData):
    """The buyer as the invoice names them."""

    name: str | None = None
    email: str | None = None


class Seller(ServiceData):
    """The seller as the invoice names them."""

    name: str
    slug: str
    address: str | None = None
    tax_id: str | None = None
    timezone: KnownTimeZone = "UTC"
    email: str | None = None
    phone: str | None = None
    logo_url: str | None = None


class PaymentTerms(ServiceData):
    """What is to be paid, by whom and to whom; the same in a call and in an event."""

    voucher_id: BodyId
    organization_id: BodyId
    client_id: BodyId
    amount: Price
    currency: Currency
    payment_method: Choice[Method]
    description: str
    buyer: Buyer
    seller: Seller


class ChargeCreate(PaymentTerms):
    """The charge of a purchase, as vouchers requests it.

    `first` states that the voucher was made just now and is charged for the first time. It saves
    time and may be wrong: the result is the same.
    """

    payment_token: CardToken | None = None
    first: bool = False


class NextAction(BaseModel):
    """What the payer must do: go to an address, or confirm in the card form by its secret."""

    type: str
    redirect_url: str | None
    client_secret: str | None


class FailureRead(BaseModel):
    """Why a payment failed, as the gateway reported it."""

    model_config = ConfigDict(from_attributes=True)

    code: str
    message: str


class ChargeRead(BaseModel):
    """The state of a charge."""

    transaction_id: int
    status: str
    next_action: NextAction | None
    failure: FailureRead | None
    invoice_number: str | None
    completed_at: datetime | None


class PaymentConfirm(RequestBody):
    """The card token of a pending payment, or nothing after the bank's confirmation."""

    payment_token: CardToken | None = None


class PaymentMarkPaid(RequestBody):
    """A note of staff about money that they received."""

    note: Text | None = None


class PaymentRead(BaseModel):
    """A payment as the payer and the organization see it.

    Only the payer sees `next_action`; only staff see `quarantine_reason`, the `note` about money
    that was paid by hand, and the `platform_fee` that the operator takes.
    """

    id: int
    voucher_id: int
    organization_id: int
    client_id: int
    amount: Money
    currency: str
    payment_method: str
    payment_gateway: str
    gateway_transaction_id: str | None
    status: str
    captured_amount: Money
    refunded_amount: Money
    disputed_amount: Money
    platform_fee: Money | None
    description: str
    failure: FailureRead | None
    quarantine_reason: str | None
    note: str | None
    next_action: NextAction | None
    invoice_number: str | None
    created_at: datetime
    completed_at: datetime | None


class RefundCreate(RequestBody):
    """How much is refunded; everything that is left when there is no amount."""

    amount: RefundAmount | None = None
    reason: Text | None = None


class QuotedRefund(ServiceData):
    """A refund that vouchers has quoted and withheld the sessions for."""

    quote_id: BodyId
    transaction_id: BodyId
    amount: RefundAmount
    currency: Currency
    reason: str | None = None


class QuotedRefundRead(BaseModel):
    """The state of a quoted refund; `refunded_amount` is the sum of the payment's refunds."""

    id: int
    status: str
    amount: Money
    refunded_amount: Money
    failure_message: str | None


class PaymentState(BaseModel):
    """How much of a voucher's payment can be given back, and how much is in pending refunds.

    A refund must be a multiple of `unit`.
    """

    transaction_id: int
    currency: str
    captured_amount: Money
    refunded_amount: Money
    refundable_amount: Money
    pending_amount: Money
    unit: Money


class DisputeRead(BaseModel):
    """A dispute: what the payer's bank claims, and how it ended."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    transaction_id: int
    client_id: int
    amount: Money
    currency: str
    reason: str | None
    status: str
    created_at: datetime
    closed_at: datetime | None


class RefundRead(BaseModel):
    """A refund; while it is pending the gateway has not confirmed it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    transaction_id: int
    amount: Money
    currency: str
    status: str
    source: str
    reason: str | None
    quote_id: int | None
    failure_message: str | None
    created_at: datetime
    completed_at: datetime | None


class RepaymentRead(BaseModel):
    """Money that a person must give back: why, and whether it is still due.

    `refund_id` is the refund that failed or came back.
    """

    model_config = ConfigDict(from_attributes=True)

    id: int
    transaction_id: int
    voucher_id: int
    client_id: int
    refund_id: int | None
    amount: Money
    currency: str
    reason: RepaymentReason
    status: RepaymentStatus
    note: str | None
    created_at: datetime
    settled_at: datetime | None


class RepaymentSettle(RequestBody):
    """A note of staff about money that they gave back."""

    note: Text | None = None


class SavedCardCreate(RequestBody):
    """The token of a card, and the text that the client agreed to, as it was displayed."""

    organization_id: BodyId
    payment_token: CardToken
    mandate_text: Annotated[Text, Field(max_length=4000)]


class SavedCardRead(BaseModel):
    """A saved card: what a person recognizes it by, never its number.

    Only the client sees `next_action`. `exp_year` has four digits.
    """

    model_config = ConfigDict(from_attributes=True)

    id: int
    organization_id: int
    client_id: int
    status: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    mandate_text: str
    mandate_accepted_at: datetime
    failure_code: str | None
    failure_message: str | None
    next_action: NextAction | None
    created_at: datetime
    removed_at: datetime | None


class PaymentMethodRead(BaseModel):
    """A method of payment, with what a payer's browser needs if its gateway is `online`.

    `account` is the connected account for which the browser makes card tokens, null for the
    installation's own. `reason` is set when the method is not available.
    """

    model_config = ConfigDict(from_attributes=True)

    method: Method
    gateway: str
    available: bool
    online: bool
    publishable_key: str | None
    account: str | None
    live: bool | None
    reason: FailureRead | None


class InvoiceLine(BaseModel):
    """What was sold or is given back."""

    description: str
    quantity: int
    unit_price: Money
    amount: Money


class InvoiceRead(BaseModel):
    """An invoice or credit note, as it was issued."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    organization_id: int
    client_id: int
    transaction_id: int
    refund_id: int | None
    kind: str
    number: str
    corrects_number: str | None
    issued_at: datetime
    issue_date: date
    currency: str
    total: Money
    lines: list[InvoiceLine]
    payment_method: str
    seller: Seller
    buyer: Buyer


class SeriesGaps(BaseModel):
    """One series of numbers; `missing` must be empty."""

    kind: str
    year: int
    last_number: int
    issued: int
    missing: list[int]


class DayTotal(BaseModel):
    """What was paid and given back on one day of the organization, by currency and method."""

    day: date
    currency: str
    payment_method: str
    payments: int
    paid: Money
    refunds: int
    refunded: Money
    net: Money


def plain(model: BaseModel) -> dict[str, Any]:
    """Return a model as a dictionary of JSON values."""
    return model.model_dump(mode="json")
