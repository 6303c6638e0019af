"""Requests and responses of refund quotes and of refunds by quote."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.vouchers.schemas.reservations import ReservationRead
from shared.fields import BodyId, Name, RequestBody
from shared.money import Money


class RefundQuoteCreate(RequestBody):
    """How many of the unused sessions are to be refunded, all of them by default."""

    sessions: Annotated[int, Field(ge=1, le=10_000)] | None = None


class RefundQuoteRead(BaseModel):
    """The amount that is refunded for `sessions` of the unused sessions. It is valid until
    `valid_until`, or until the voucher is used or changed.

    `releases` are the reservations that the refund would cancel, the latest first. There are none
    while the sessions that are not booked are enough.
    """

    model_config = ConfigDict(from_attributes=True)

    id: int
    voucher_id: int
    transaction_id: int
    amount: Money
    currency: str
    rule: str
    unused_sessions: int
    sessions: int
    valid_until: datetime
    created_at: datetime
    releases: list[ReservationRead] = Field(default_factory=list)


class RefundFromQuote(RequestBody):
    """The quote that is to be refunded, and why. An expired voucher needs a reason."""

    quote_id: BodyId
    reason: Name | None = None


class VoucherRefund(BaseModel):
    """A refund by quote. While it is pending, the payment gateway has not confirmed it, and the
    sessions are withheld."""

    id: int
    quote_id: int
    transaction_id: int
    amount: Money
    currency: str
    sessions: int
    status: str
    refunded_amount: Money
