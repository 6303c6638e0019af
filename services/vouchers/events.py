"""What this service publishes."""

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
"""The queues that take some of them: none leaves before all of these are there."""


class Buyer(TypedDict):
    """Who pays, as the invoice will name them."""

    name: str
    email: str | None


class Seller(TypedDict):
    """Who sells, as the invoice will name them."""

    name: str
    slug: str
    address: str | None
    tax_id: str | None
    timezone: str
    email: str | None
    phone: str | None
    logo_url: str | None


class Purchased(TypedDict):
    """What payments needs to make the payment if it was not called; only version 1's vouchers
    lack some of it, and those are not purchased any more."""

    client_id: int
    price: Decimal
    payment_amount: Decimal
    currency: str
    payment_method: PaymentMethod
    buyer: Buyer
    seller: Seller


class Holder(TypedDict):
    """Whose voucher it is; what somebody wrote about it may tell of them. Only version 1 had
    vouchers of nobody."""

    client_id: int | None


class Cancelled(Holder):
    """Why: in somebody's words, or `unpaid`, `payment_failed`, `refunded`, `dispute_lost`."""

    reason: str | None


class Frozen(Holder):
    """The freeze: `days` were added, from its first to its last day inclusive."""

    adjustment_id: int
    starts_on: date
    ends_on: date
    days: int
    reason: str


class Extended(Holder):
    """The extension: `days` were added."""

    adjustment_id: int
    days: int
    reason: str


class AdjustmentReversed(TypedDict):
    """The freeze or extension that was taken back."""

    adjustment_id: int
    kind: AdjustmentKind


class RefundRequested(Holder):
    """What payments needs to give the money back if it was not called; its sessions are withheld
    already."""

    refund_quote_id: int
    transaction_id: int
    sessions: int
    amount: Decimal
    currency: str
    reason: str | None


class Reduced(TypedDict):
    """Sessions that went with money which was given back without a quote."""

    sessions: int
    regular_sessions_left: int


class Restored(TypedDict):
    """Sessions of a quote whose money could not be given back."""

    refund_quote_id: int
    sessions: int


class Balance(TypedDict):
    """What the voucher still holds."""

    regular_sessions_left: int
    backup_sessions_left: int


SHAPES: Shapes = {
    "vouchers.voucher_type.created.v1": new_row(),
    "vouchers.voucher_type.deleted.v1": removal(),
    "vouchers.voucher.purchased.v1": new_row(Purchased),
    "vouchers.voucher.cancelled.v1": change(Cancelled),
    "vouchers.voucher.frozen.v1": change(Frozen),
    "vouchers.voucher.extended.v1": change(Extended),
    "vouchers.voucher.adjustment_reversed.v1": change(AdjustmentReversed),
    "vouchers.voucher.refund_requested.v1": change(RefundRequested),
    "vouchers.voucher.reduced.v1": change(Reduced),
    "vouchers.voucher.restored.v1": change(Restored),
    "vouchers.redemption.created.v1": new_row(Balance),
    "vouchers.redemption.reversed.v1": new_row(Balance),
    "vouchers.request.denied.v1": denials.SHAPE,
}
