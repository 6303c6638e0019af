"""Facts that a caller of this service may have to be told."""

from shared.errors import AppError, Conflict, NotFound


class PaymentNotFound(NotFound):
    """There is no such payment, or it is not yours to see."""


class InvoiceNotFound(NotFound):
    """There is no such invoice; a payment has one once it has succeeded."""


class RepaymentNotFound(NotFound):
    """There is no such repayment, or it is not yours to see."""


class RepaymentSettled(Conflict):
    """This repayment was settled already."""


class PaymentMade(Conflict):
    """The payment was recorded by hand already: the voucher cannot be cancelled as unpaid."""


class OrganizationNotFound(NotFound):
    """There is no such organization, or it is not yours to see."""


class GatewayNotFound(NotFound):
    """There is no such payment gateway."""


class ChargeDiffers(Conflict):
    """This voucher has a payment already, of another amount, currency or buyer."""


class PaymentNotPending(Conflict):
    """The payment is not waiting to be paid."""


class FirstCardUnderWay(Conflict):
    """The payer's bank is still asked about the first card; another cannot be used meanwhile."""


class NotPaidByHand(Conflict):
    """The payment goes through a payment gateway; it cannot be marked as paid."""


class PaymentNotPaid(Conflict):
    """Nothing was paid, so nothing can be refunded."""


class RefundExceedsPayment(Conflict):
    """More than was paid and not refunded yet cannot be refunded."""


class PaymentDisputed(Conflict):
    """The payer's bank claims this money back or has taken it: it cannot be refunded as well."""


class WebhookNotVerified(AppError):
    """The body is not an event that the payment gateway signed within the last five minutes."""

    status = 400


class NotAcceptable(AppError):
    """The invoice exists as application/json and application/pdf."""

    status = 406
