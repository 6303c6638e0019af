"""The events that this service publishes."""

from datetime import date
from decimal import Decimal
from typing import Literal, NotRequired, TypedDict

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
    ("voucher", "TRANSFER"): "vouchers.voucher.transferred.v1",
    ("voucher", "RECEIVE"): "vouchers.voucher.received.v1",
    ("voucher", "RETURN"): "vouchers.voucher.returned.v1",
    ("voucher", "REGAIN"): "vouchers.voucher.regained.v1",
    ("redemption", "REDEEM"): "vouchers.redemption.created.v1",
    ("redemption", "REVERSE"): "vouchers.redemption.reversed.v1",
    ("booking_settings", "CREATE"): "vouchers.booking_settings.created.v1",
    ("booking_settings", "UPDATE"): "vouchers.booking_settings.updated.v1",
    ("resource", "CREATE"): "vouchers.resource.created.v1",
    ("resource", "UPDATE"): "vouchers.resource.updated.v1",
    ("resource", "ACTIVATE"): "vouchers.resource.activated.v1",
    ("resource", "DEACTIVATE"): "vouchers.resource.deactivated.v1",
    ("busy_calendar", "CREATE"): "vouchers.busy_calendar.created.v1",
    ("busy_calendar", "DELETE"): "vouchers.busy_calendar.deleted.v1",
    ("closure", "CREATE"): "vouchers.closure.created.v1",
    ("closure", "DELETE"): "vouchers.closure.deleted.v1",
    ("therapy_class", "CREATE"): "vouchers.therapy_class.created.v1",
    ("therapy_class", "UPDATE"): "vouchers.therapy_class.updated.v1",
    ("session_series", "CREATE"): "vouchers.session_series.created.v1",
    ("session_series", "UPDATE"): "vouchers.session_series.updated.v1",
    ("session_series", "END"): "vouchers.session_series.ended.v1",
    ("session", "CREATE"): "vouchers.session.created.v1",
    ("session", "UPDATE"): "vouchers.session.updated.v1",
    ("session", "MOVE"): "vouchers.session.moved.v1",
    ("session", "CANCEL"): "vouchers.session.cancelled.v1",
    ("session", "COMPLETE"): "vouchers.session.completed.v1",
    ("reservation", "HOLD"): "vouchers.reservation.held.v1",
    ("reservation", "BOOK"): "vouchers.reservation.booked.v1",
    ("reservation", "WAIT"): "vouchers.reservation.waitlisted.v1",
    ("reservation", "OFFER"): "vouchers.reservation.offered.v1",
    ("reservation", "PROMOTE"): "vouchers.reservation.promoted.v1",
    ("reservation", "CONFIRM"): "vouchers.reservation.confirmed.v1",
    ("reservation", "RESCHEDULE"): "vouchers.reservation.rescheduled.v1",
    ("reservation", "CANCEL"): "vouchers.reservation.cancelled.v1",
    ("reservation", "LATE_CANCEL"): "vouchers.reservation.late_cancelled.v1",
    ("reservation", "ATTEND"): "vouchers.reservation.attended.v1",
    ("reservation", "NO_SHOW"): "vouchers.reservation.no_show.v1",
    ("reservation", "REOPEN"): "vouchers.reservation.reopened.v1",
    ("reservation", "REMIND"): "vouchers.reservation.reminder_due.v1",
    ("calendar_feed", "CREATE"): "vouchers.calendar_feed.created.v1",
    ("calendar_feed", "REVOKE"): "vouchers.calendar_feed.revoked.v1",
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

    `payer_id` is the client's guardian, if that is who pays. Vouchers of version 1 lack some of it,
    but no event of theirs has these details.
    """

    client_id: int
    payer_id: NotRequired[int]
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


class AdjustmentReversalDetails(HolderDetails):
    """The freeze or extension that was reversed, and why if a reason was stated."""

    adjustment_id: int
    kind: AdjustmentKind
    reason: str | None


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


class ReceiptDetails(TypedDict):
    """The sessions that a new voucher received from `received_from_id`, and why."""

    sessions: int
    reason: str


class TransferDetails(HolderDetails):
    """The sessions that went from one voucher to the other, and why."""

    sessions: int
    other_voucher_id: int
    reason: str


class BalanceDetails(TypedDict):
    """The voucher's remaining sessions."""

    regular_sessions_left: int
    backup_sessions_left: int


class VoucherTypesDetails(TypedDict, total=False):
    """The voucher types that a resource or a class is limited to; none means all."""

    voucher_type_ids: list[int]


class WeeklyHoursDetails(TypedDict):
    """Weekly hours of a resource: an ISO weekday, minutes since 00:00, days both inclusive."""

    weekday: int
    start_minute: int
    end_minute: int
    from_date: date | None
    until_date: date | None


class ResourceChange(VoucherTypesDetails):
    """All working hours of a resource, if they were replaced."""

    working_hours: NotRequired[list[WeeklyHoursDetails]]


class SessionMoveDetails(TypedDict):
    """How many reservations moved with the session."""

    reservations: int


class ReservationDetails(TypedDict):
    """The client of a reservation, its session, and the balance of its voucher afterwards.

    Only reservations of version 1 can be without a client or a voucher.
    """

    client_id: int | None
    session_id: int
    bookable_sessions: int | None
    booked_sessions: int | None


class SettlementDetails(ReservationDetails):
    """What a reservation cost: `regular`, `backup` or `none`."""

    charge: Literal["regular", "backup", "none"]


class ReminderDetails(ReservationDetails):
    """How many minutes before the session the reminder is."""

    minutes_before: int


SHAPES: Shapes = {
    "vouchers.booking_settings.created.v1": new_row(),
    "vouchers.resource.created.v1": new_row(VoucherTypesDetails),
    "vouchers.resource.updated.v1": change(ResourceChange),
    "vouchers.busy_calendar.created.v1": new_row(),
    "vouchers.busy_calendar.deleted.v1": removal(),
    "vouchers.closure.created.v1": new_row(),
    "vouchers.closure.deleted.v1": removal(),
    "vouchers.therapy_class.created.v1": new_row(VoucherTypesDetails),
    "vouchers.therapy_class.updated.v1": change(VoucherTypesDetails),
    "vouchers.session_series.created.v1": new_row(),
    "vouchers.session.created.v1": new_row(),
    "vouchers.session.moved.v1": change(SessionMoveDetails),
    "vouchers.reservation.held.v1": new_row(ReservationDetails),
    "vouchers.reservation.booked.v1": new_row(ReservationDetails),
    "vouchers.reservation.waitlisted.v1": new_row(ReservationDetails),
    "vouchers.reservation.offered.v1": change(ReservationDetails),
    "vouchers.reservation.promoted.v1": change(ReservationDetails),
    "vouchers.reservation.confirmed.v1": change(ReservationDetails),
    "vouchers.reservation.rescheduled.v1": change(ReservationDetails),
    "vouchers.reservation.cancelled.v1": change(ReservationDetails),
    "vouchers.reservation.late_cancelled.v1": change(SettlementDetails),
    "vouchers.reservation.attended.v1": change(SettlementDetails),
    "vouchers.reservation.no_show.v1": change(SettlementDetails),
    "vouchers.reservation.reopened.v1": change(ReservationDetails),
    "vouchers.reservation.reminder_due.v1": change(ReminderDetails),
    "vouchers.calendar_feed.created.v1": new_row(),
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
    "vouchers.voucher.transferred.v1": change(TransferDetails),
    "vouchers.voucher.received.v1": new_row(ReceiptDetails),
    "vouchers.voucher.returned.v1": change(TransferDetails),
    "vouchers.voucher.regained.v1": change(TransferDetails),
    "vouchers.redemption.created.v1": new_row(BalanceDetails),
    "vouchers.redemption.reversed.v1": new_row(BalanceDetails),
    "vouchers.request.denied.v1": denials.SHAPE,
}
