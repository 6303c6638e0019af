"""What this service publishes."""

from shared.changes import Catalogue

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
    ("voucher", "REVERSE"): "vouchers.voucher.adjustment_reversed.v1",
    ("redemption", "REDEEM"): "vouchers.redemption.created.v1",
    ("redemption", "REVERSE"): "vouchers.redemption.reversed.v1",
}
