"""Tables, and the rules that guard one row."""

from services.vouchers.models.base import Base
from services.vouchers.models.copies import ClientCopy, OrganizationCopy
from services.vouchers.models.redemptions import Adjustment, AdjustmentKind, Reason, Redemption
from services.vouchers.models.refunds import QuoteStatus, RefundQuote, VoucherDispute
from services.vouchers.models.version_one import ClassSession, Reservation, TherapyClass
from services.vouchers.models.voucher_types import WEEKDAYS, Frequency, VoucherType, Weekday
from services.vouchers.models.vouchers import (
    TERMS,
    PaymentMethod,
    PaymentStatus,
    SessionKind,
    Voucher,
    VoucherCode,
    VoucherStatus,
)

__all__ = [
    "TERMS",
    "WEEKDAYS",
    "Adjustment",
    "AdjustmentKind",
    "Base",
    "ClassSession",
    "ClientCopy",
    "Frequency",
    "OrganizationCopy",
    "PaymentMethod",
    "PaymentStatus",
    "QuoteStatus",
    "Reason",
    "Redemption",
    "RefundQuote",
    "Reservation",
    "SessionKind",
    "TherapyClass",
    "Voucher",
    "VoucherCode",
    "VoucherDispute",
    "VoucherStatus",
    "VoucherType",
    "Weekday",
]
