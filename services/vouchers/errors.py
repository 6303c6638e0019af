"""The errors that clients of this service may receive; the docstring is the `detail`."""

from shared.errors import AppError, Conflict, NotFound


class OrganizationNotFound(NotFound):
    """There is no such organization, or you may not see it."""


class VoucherTypeNotFound(NotFound):
    """There is no such voucher type, or you may not see it."""


class VoucherNotFound(NotFound):
    """There is no such voucher, or you may not see it."""


class ClientNotFound(NotFound):
    """There is no such client in this organization. Check the id."""


class CodeNotFound(NotFound):
    """This voucher has no such code. Check the spelling."""


class RedemptionNotFound(NotFound):
    """This voucher has no such redemption."""


class AdjustmentNotFound(NotFound):
    """This voucher has no such freeze or extension."""


class VoucherTypeNotSold(Conflict):
    """This voucher type is not on sale. Choose another one."""


class VoucherTypeChanged(Conflict):
    """The voucher type has changed since this version. Read it again before you buy."""


class OrganizationInactive(Conflict):
    """This organization is inactive and sells no vouchers at the moment."""


class ClientInactive(Conflict):
    """The client's account is not active. It must be approved first."""


class PaymentDeclined(AppError):
    """The payment was declined. Use another card or payment method."""

    status = 402


class CardTokenUnknown(AppError):
    """The card token is unknown or was used already: enter the card again."""

    status = 402


class CardsNotAvailable(Conflict):
    """The organization cannot take card payments at present. Choose another method of payment."""


class VoucherUnpaid(Conflict):
    """The voucher has not been paid yet. It becomes active when it is paid."""


class VoucherCancelled(Conflict):
    """The voucher was cancelled and cannot be used or paid any more."""


class VoucherPaid(Conflict):
    """The payment has just been recorded, so the voucher becomes active. Retry in a moment."""


class VoucherExpired(Conflict):
    """The voucher's last day is over."""


class VoucherNotYetValid(Conflict):
    """The voucher is not valid yet on that day. Choose a later day."""


class VoucherFrozen(Conflict):
    """The voucher is frozen on that day. Choose another day or reverse the freeze first."""


class VoucherExhausted(Conflict):
    """Every session of this kind has been used."""


class CodeAlreadyUsed(Conflict):
    """This code has been used already."""


class RedemptionAlreadyReversed(Conflict):
    """This redemption was reversed already, or is a reversal itself."""


class VoucherNotCancellable(Conflict):
    """A completed, expired or cancelled voucher cannot be cancelled."""


class VoucherNotActive(Conflict):
    """Only an active voucher can be frozen, and only an active or expired one be extended."""


class FreezeOverlaps(Conflict):
    """The voucher is frozen or a session took place on one of these days. Choose other days."""


class ReservationsInFreeze(Conflict):
    """Sessions are booked on days of the freeze. Move them, or send release_reservations."""


class AdjustmentAlreadyReversed(Conflict):
    """This freeze or extension was reversed already."""


class SessionsBeyondValidity(Conflict):
    """Sessions took place or are booked on days that would become invalid. Reverse the redemptions
    or cancel the reservations first."""


class LeastValidityUndercut(Conflict):
    """The voucher was sold with a longer least validity. It cannot be shortened below it."""


class VoucherDisputed(Conflict):
    """The payer's bank disputes the payment. The voucher cannot be used until that is decided."""


class CodeRefunded(Conflict):
    """The money for this code's session was refunded. Use another code."""


class CodeTransferred(Conflict):
    """This code's session was transferred to another client. Use another code."""


class SessionsReceived(Conflict):
    """These sessions were transferred to the client. Return them first, then transfer them."""


class NothingReceived(Conflict):
    """The client bought this voucher, so there is nobody to whom its sessions could be returned."""


class NothingToRefund(Conflict):
    """Nothing was paid for this voucher that could still be refunded."""


class RefundUnderWay(Conflict):
    """Another refund of this voucher is under way. Request a quote when it has finished."""


class RefundQuoteNotFound(NotFound):
    """This voucher has no such refund quote."""


class RefundQuoteTaken(Conflict):
    """A refund was made from this quote already. Request another quote."""


class RefundQuoteExpired(Conflict):
    """The quote has expired. Request another one."""


class RefundQuoteOutdated(Conflict):
    """The voucher was used or changed since the quote was made. Request another one."""


class RefundRefused(Conflict):
    """The money cannot be refunded. The voucher is unchanged."""


class TooManyFeeds(Conflict):
    """You have twenty calendar feeds already. Revoke one that you do not use."""


class StartOffGrid(Conflict):
    """Sessions do not begin at this minute. Choose one of the free times."""


class SessionsBooked(Conflict):
    """Every session that is left is booked. Cancel or move a reservation first."""


class SessionCancelled(Conflict):
    """The session is cancelled. Choose another one."""


class SessionPast(Conflict):
    """The session has begun already. Choose a later one."""


class TooEarly(Conflict):
    """The session is too far ahead to be booked now."""


class TooLate(Conflict):
    """It is too late to book this session. Choose a later one."""


class WrongClass(Conflict):
    """The voucher is not for sessions of this class or therapist. Choose another session."""


class WrongSize(Conflict):
    """The voucher is for sessions of another size. Choose another session."""


class WeekdayNotAllowed(Conflict):
    """The voucher has no sessions on this weekday. Choose another day."""


class OutsideBookingRules(Conflict):
    """The session is not within the booking times of the voucher. Choose another time."""


class FrequencyReached(Conflict):
    """The voucher has a session in this period already. Choose a day of another period."""


class MaxOpenReached(Conflict):
    """No more sessions of this voucher can be booked at once. Cancel one, or wait."""


class AlreadyReserved(Conflict):
    """The client has reserved this session already. Choose another one."""


class ClientBusy(Conflict):
    """The client has another session at this time. Choose another time."""


class TherapistUnavailable(Conflict):
    """The therapist does not work at this time. Choose one of the free times."""


class SlotTaken(Conflict):
    """This time is taken. Choose one of the free times."""


class RoomTaken(Conflict):
    """The room is taken at this time. Choose one of the free times."""


class SessionFull(Conflict):
    """The session is full. Choose another one, or join its waiting list."""


class HoldLapsed(Conflict):
    """The time is not held any more. Book it again if it is still free."""


class TooManyHolds(Conflict):
    """The client holds three times already. Confirm or cancel one of them first."""


class WaitlistClosed(Conflict):
    """The session is full and has no waiting list. Choose another one."""


class LateCancellation(Conflict):
    """The session can no longer be cancelled for free. Accept the charge, or keep the session."""


class NoticePassed(Conflict):
    """The session begins too soon to be moved. Cancel it, or contact the organization."""


class ReservationSettled(Conflict):
    """The reservation is not open any more, so this cannot be done with it."""


class NotStarted(Conflict):
    """The session has not begun. Mark it when it has."""


class SeriesEnded(Conflict):
    """The series has ended. Create a new one."""


class SeriesBooked(Conflict):
    """Clients have booked sessions that would be cancelled. Release their reservations, or keep the
    sessions."""


class NoSuchTime(Conflict):
    """The clock skips this time on one of the days. Choose another time."""


class ResourceInUse(Conflict):
    """Sessions that have not ended need this. Move or cancel them first."""


class UserIsResource(Conflict):
    """This user is a resource of the organization already. Use that one."""


class CapacityTaken(Conflict):
    """More clients have a seat in the session than it would have. Cancel reservations first."""


class ReservationNotFound(NotFound):
    """There is no such reservation, or you may not see it."""


class SessionNotFound(NotFound):
    """There is no such session, or you may not see it."""


class ClassNotFound(NotFound):
    """There is no such class in this organization."""


class ResourceNotFound(NotFound):
    """There is no such resource in this organization."""


class SeriesNotFound(NotFound):
    """There is no such series in this organization."""


class ClosureNotFound(NotFound):
    """There is no such closure in this organization."""


class BusyCalendarNotFound(NotFound):
    """The resource has no calendar elsewhere. Enter its address first."""


class FeedNotFound(NotFound):
    """There is no such calendar feed, or it was revoked."""


BOOKING_REFUSALS: tuple[type[Conflict], ...] = (
    OrganizationInactive,
    ClientInactive,
    VoucherUnpaid,
    VoucherCancelled,
    VoucherDisputed,
    VoucherExhausted,
    SessionsBooked,
    VoucherNotYetValid,
    VoucherExpired,
    VoucherFrozen,
    SessionCancelled,
    SessionPast,
    TooEarly,
    TooLate,
    WrongClass,
    WrongSize,
    WeekdayNotAllowed,
    OutsideBookingRules,
    FrequencyReached,
    MaxOpenReached,
    AlreadyReserved,
    ClientBusy,
    TherapistUnavailable,
    SlotTaken,
    RoomTaken,
    SessionFull,
)
"""The error of each reason against a booking, in the order of `scheduling.reasons.ReasonCode`."""
