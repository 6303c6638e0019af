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
    """Only an active voucher can be frozen or extended."""


class FreezeOverlaps(Conflict):
    """The voucher is frozen or a session took place on one of these days. Choose other days."""


class AdjustmentAlreadyReversed(Conflict):
    """This freeze or extension was reversed already."""


class SessionsBeyondValidity(Conflict):
    """Sessions took place on days that would become invalid. Reverse their redemptions first."""


class VoucherDisputed(Conflict):
    """The payer's bank disputes the payment. The voucher cannot be used until that is decided."""


class CodeRefunded(Conflict):
    """The money for this code's session was refunded. Use another code."""


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
