"""Tables, and the rules that guard one row."""

from services.vouchers.models.base import Base
from services.vouchers.models.busy_calendars import BusyCalendar, BusyTime
from services.vouchers.models.calendars import (
    HOLIDAY,
    MANUAL,
    BookingSettings,
    Closure,
    ClosureKind,
    Resource,
    ResourceKind,
    ResourceVoucherType,
    WorkingHours,
)
from services.vouchers.models.copies import (
    AccountMode,
    ClientCopy,
    OrganizationCopy,
    PaymentAccountCopy,
)
from services.vouchers.models.mails import OutgoingMail
from services.vouchers.models.redemptions import Adjustment, AdjustmentKind, Reason, Redemption
from services.vouchers.models.refunds import QuoteStatus, RefundQuote, VoucherDispute
from services.vouchers.models.reservations import (
    Attestation,
    CalendarFeed,
    FeedDetail,
    FeedScope,
    HeldFor,
    Reminder,
    Reservation,
)
from services.vouchers.models.sessions import (
    ClassSession,
    ClassVoucherType,
    Occupation,
    SeriesStatus,
    SessionSeries,
    SessionStatus,
    TherapyClass,
)
from services.vouchers.models.transfers import TransferEntry
from services.vouchers.models.validity import MAX_MONTHS, MAX_YEARS, shortest_validity
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
    "HOLIDAY",
    "MANUAL",
    "MAX_MONTHS",
    "MAX_YEARS",
    "TERMS",
    "WEEKDAYS",
    "AccountMode",
    "Adjustment",
    "AdjustmentKind",
    "Attestation",
    "Base",
    "BookingSettings",
    "BusyCalendar",
    "BusyTime",
    "CalendarFeed",
    "ClassSession",
    "ClassVoucherType",
    "ClientCopy",
    "Closure",
    "ClosureKind",
    "FeedDetail",
    "FeedScope",
    "Frequency",
    "HeldFor",
    "Occupation",
    "OrganizationCopy",
    "OutgoingMail",
    "PaymentAccountCopy",
    "PaymentMethod",
    "PaymentStatus",
    "QuoteStatus",
    "Reason",
    "Redemption",
    "RefundQuote",
    "Reminder",
    "Reservation",
    "Resource",
    "ResourceKind",
    "ResourceVoucherType",
    "SeriesStatus",
    "SessionKind",
    "SessionSeries",
    "SessionStatus",
    "TherapyClass",
    "TransferEntry",
    "Voucher",
    "VoucherCode",
    "VoucherDispute",
    "VoucherStatus",
    "VoucherType",
    "Weekday",
    "WorkingHours",
    "shortest_validity",
]
