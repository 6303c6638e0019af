"""Facts that a caller of this service may have to be told."""

from shared.errors import AppError, Conflict, NotFound


class OrganizationNotFound(NotFound):
    """There is no such organization, or it is not yours to see."""


class VoucherTypeNotFound(NotFound):
    """There is no such voucher type, or it is not yours to see."""


class VoucherNotFound(NotFound):
    """There is no such voucher, or it is not yours to see."""


class ClientNotFound(NotFound):
    """There is no such client in this organization."""


class CodeNotFound(NotFound):
    """This voucher has no such code."""


class RedemptionNotFound(NotFound):
    """This voucher has no such redemption."""


class AdjustmentNotFound(NotFound):
    """This voucher has no such freeze or extension."""


class VoucherTypeNotSold(Conflict):
    """This voucher type is not on sale."""


class VoucherTypeChanged(Conflict):
    """The voucher type was changed since the version that is to be bought: look at it again."""


class OrganizationInactive(Conflict):
    """This organization sells nothing at the moment."""


class ClientInactive(Conflict):
    """This client's account is not active."""


class PaymentDeclined(AppError):
    """The payment was declined."""

    status = 402


class CardTokenUnknown(AppError):
    """The card token is unknown or was used already: enter the card again."""

    status = 402


class VoucherUnpaid(Conflict):
    """The voucher has not been paid yet."""


class VoucherCancelled(Conflict):
    """The voucher was cancelled."""


class VoucherPaid(Conflict):
    """The voucher's payment has just been recorded; the voucher will be active in a moment."""


class VoucherExpired(Conflict):
    """The voucher is past its last day."""


class VoucherNotYetValid(Conflict):
    """The voucher is not valid yet on that day."""


class VoucherFrozen(Conflict):
    """The voucher is frozen on that day."""


class VoucherExhausted(Conflict):
    """Every session of this kind has been used."""


class CodeAlreadyUsed(Conflict):
    """This code has been used already."""


class RedemptionAlreadyReversed(Conflict):
    """This redemption was reversed already, or is a reversal itself."""


class VoucherNotCancellable(Conflict):
    """A completed, expired or cancelled voucher cannot be cancelled."""


class VoucherNotActive(Conflict):
    """Only an active voucher can be frozen or extended."""


class FreezeOverlaps(Conflict):
    """The voucher is frozen on some of these days already, or a session took place then."""


class AdjustmentAlreadyReversed(Conflict):
    """This freeze or extension was reversed already."""


class SessionsBeyondValidity(Conflict):
    """Sessions took place on days that this would make invalid."""


class VoucherDisputed(Conflict):
    """The payer's bank wants the money back: until that is decided the voucher rests."""


class CodeRefunded(Conflict):
    """The money for this code's session was given back."""


class NothingToRefund(Conflict):
    """Nothing was paid for this voucher that could still be given back."""


class RefundUnderWay(Conflict):
    """Other money for this voucher is on its way back: ask again when it has arrived."""


class RefundQuoteNotFound(NotFound):
    """This voucher has no such refund quote."""


class RefundQuoteTaken(Conflict):
    """A refund was made from this quote already."""


class RefundQuoteExpired(Conflict):
    """The quote is too old: ask for another one."""


class RefundQuoteOutdated(Conflict):
    """The voucher was used or changed since the quote was made: ask for another one."""


class RefundRefused(Conflict):
    """The money cannot be given back; the voucher is as it was."""
