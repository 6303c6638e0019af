"""Refund quotes and the refunds made from them, as they come in and go out."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shared.fields import BodyId, Name, RequestBody
from shared.money import Money


class RefundQuoteCreate(RequestBody):
    """How many of the unused sessions are to be given back: all of them when nothing is said."""

    sessions: Annotated[int, Field(ge=1, le=10_000)] | None = None


class RefundQuoteRead(BaseModel):
    """What giving `sessions` of the unused ones back brings, until `valid_until` or until the
    voucher is used or changed."""

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


class RefundFromQuote(RequestBody):
    """The quote that is to be paid out, and why."""

    quote_id: BodyId
    reason: Name | None = None


class VoucherRefund(BaseModel):
    """A refund by quote; while it is pending the payment gateway has not confirmed it, and the
    sessions are withheld."""

    id: int
    quote_id: int
    transaction_id: int
    amount: Money
    currency: str
    sessions: int
    status: str
    refunded_amount: Money
