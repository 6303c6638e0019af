"""The events that this service publishes."""

from datetime import date
from decimal import Decimal
from typing import TypedDict

from services.vouchers.models import AdjustmentKind, PaymentMethod
from shared import denials
from shared.changes import Catalogue
from shared.shapes import Shapes, change, new_row, removal

CATALOGUE: Catalogue = {
    ("voucher_type", "CREATE"): "vouchers.voucher_type.created.v1",
    ("voucher_type", "UPDATE"): "vouchers.voucher_type.updated.v1",
    ("voucher_type", "ACTIVATE"): "vouchers.voucher_type.activated.v1",
    ("voucher_type", "DEACTIVATE"): "vouchers.voucher_type.deactivated.v1",
    ("voucher_type", "DELETE"): "vouchers.voucher_type.deleted.v1",
    ("voucher", "PURCHASE"): "vouchers.voucher.purchased.v1",
    ("voucher", "ACTIVATE"): "vouchers.voucher.activated.v1",
    ("voucher", "UPDATE"): "vouchers.voucher.updated.v1",
    ("voucher", "COMPLETE"): "vouchers.voucher.completed.v1",
    ("voucher", "REOPEN"): "vouchers.voucher.reopened.v1",
    ("voucher", "EXPIRE"): "vouchers.voucher.expired.v1",
    ("voucher", "CANCEL"): "vouchers.voucher.cancelled.v1",
    ("voucher", "FREEZE"): "vouchers.voucher.frozen.v1",
    ("voucher", "EXTEND"): "vouchers.voucher.extended.v1",
    ("voucher", "REFUND"): "vouchers.voucher.refund_requested.v1",
    ("voucher", "REDUCE"): "vouchers.voucher.reduced.v1",
    ("voucher", "RESTORE"): "vouchers.voucher.restored.v1",
    ("voucher", "REVERSE"): "vouchers.voucher.adjustment_reversed.v1",
    ("redemption", "REDEEM"): "vouchers.redemption.created.v1",
    ("redemption", "REVERSE"): "vouchers.redemption.reversed.v1",
    ("request", "DENIED"): "vouchers.request.denied.v1",
}

LISTENERS = ("audit.log", "payments.vouchers")
"""The queues that receive these events: none is published before all of these queues exist."""


class Buyer(TypedDict):
    """The payer, as the invoice names them."""

    name: str
    email: str | None


class Seller(TypedDict):
    """The seller, as the invoice names it."""

    name: str
    slug: str
    address: str | None
    tax_id: str | None
    timezone: str
    email: str | None
    phone: str | None
    logo_url: str | None


class PurchaseDetails(TypedDict):
    """What payments needs to create the payment if the call does not reach it.

    Vouchers of version 1 lack some of it, but no event of theirs has these details.
    """

    client_id: int
    price: Decimal
    payment_amount: Decimal
    currency: str
    payment_method: PaymentMethod
    buyer: Buyer
    seller: Seller


class HolderDetails(TypedDict):
    """The voucher's client, whose personal data a reason may contain.

    Only vouchers of version 1 can be without a client.
    """

    client_id: int | None


class CancellationDetails(HolderDetails):
    """Why: a user's text, or `unpaid`, `payment_failed`, `refunded`, `dispute_lost`."""

    reason: str | None


class FreezeDetails(HolderDetails):
    """The freeze: `days` were added, from its first to its last day inclusive."""

    adjustment_id: int
    starts_on: date
    ends_on: date
    days: int
    reason: str


class ExtensionDetails(HolderDetails):
    """The extension: `days` were added."""

    adjustment_id: int
    days: int
    reason: str


class AdjustmentReversalDetails(TypedDict):
    """The freeze or extension that was reversed."""

    adjustment_id: int
    kind: AdjustmentKind


class RefundRequestDetails(HolderDetails):
    """What payments needs to make the refund if the call does not reach it. The sessions are
    withheld already."""

    refund_quote_id: int
    transaction_id: int
    sessions: int
    amount: Decimal
    currency: str
    reason: str | None


class ReductionDetails(TypedDict):
    """Sessions that were removed because their money was refunded without a quote."""

    sessions: int
    regular_sessions_left: int


class RestorationDetails(TypedDict):
    """Sessions that are usable again because the refund of their quote failed."""

    refund_quote_id: int
    sessions: int


class BalanceDetails(TypedDict):
    """The voucher's remaining sessions."""

    regular_sessions_left: int
    backup_sessions_left: int


SHAPES: Shapes = {
    "vouchers.voucher_type.created.v1": new_row(),
    "vouchers.voucher_type.deleted.v1": removal(),
    "vouchers.voucher.purchased.v1": new_row(PurchaseDetails),
    "vouchers.voucher.cancelled.v1": change(CancellationDetails),
    "vouchers.voucher.frozen.v1": change(FreezeDetails),
    "vouchers.voucher.extended.v1": change(ExtensionDetails),
    "vouchers.voucher.adjustment_reversed.v1": change(AdjustmentReversalDetails),
    "vouchers.voucher.refund_requested.v1": change(RefundRequestDetails),
    "vouchers.voucher.reduced.v1": change(ReductionDetails),
    "vouchers.voucher.restored.v1": change(RestorationDetails),
    "vouchers.redemption.created.v1": new_row(BalanceDetails),
    "vouchers.redemption.reversed.v1": new_row(BalanceDetails),
    "vouchers.request.denied.v1": denials.SHAPE,
}
