"""Errors of this service; the first line of a docstring is the `detail` that a client reads."""

from shared.errors import AppError, Conflict, NotFound

GATEWAY_SILENT = "The payment gateway does not answer. Try again later."
"""The `detail` of ServiceUnavailable when a request waits for the gateway in vain."""


class PaymentNotFound(NotFound):
    """There is no such payment, or you may not see it. Check its id."""


class InvoiceNotFound(NotFound):
    """There is no such invoice. A payment has one as soon as it has succeeded."""


class RepaymentNotFound(NotFound):
    """There is no such repayment, or you may not see it. Check its id."""


class RepaymentSettled(Conflict):
    """This repayment is settled already. Nothing is left to give back."""


class PaymentMade(Conflict):
    """The payment was marked as paid already. The voucher cannot be cancelled as unpaid."""


class OrganizationNotFound(NotFound):
    """There is no such organization, or you may not see it. Check its id."""


class PayoutNotFound(NotFound):
    """There is no such payout, or you may not see it. Check its id."""


class PayoutsNotAvailable(Conflict):
    """Card payments go to the operator's own account here, so there are no payouts to see."""


class GatewayNotFound(NotFound):
    """There is no such payment gateway. Check the address that its webhooks are sent to."""


class ChargeDiffers(Conflict):
    """This voucher has a payment already, with another amount, currency or buyer."""


class PaymentNotPending(Conflict):
    """The payment does not wait to be paid. Read it again to see its state."""


class FirstCardUnderWay(Conflict):
    """The payer's bank still checks the first card. Confirm there before you use another card."""


class NotPaidByHand(Conflict):
    """This payment goes through a payment gateway. Only the gateway can mark it as paid."""


class SavedCardNotFound(NotFound):
    """There is no such saved card, or you may not see it. Check its id."""


class SavedCardSettled(Conflict):
    """This card waits for nothing. Read it again to see its state."""


class CardStorageUnavailable(Conflict):
    """The organization's payment gateway stores no cards. Enter the card at each payment."""


class CardsNotAvailable(Conflict):
    """The organization cannot take card payments at present. Choose another method of payment."""


class PaymentAccountNotFound(NotFound):
    """The organization has connected no account. Send a POST to this address to connect one."""


class InstallationAccountUsed(Conflict):
    """This installation charges all organizations on one account. Ask its operator to change it."""


class PaymentAccountOfOtherMode(Conflict):
    """The account and this installation differ: one is in test mode. Disconnect the account."""


class PaymentAccountCountryFixed(Conflict):
    """The account was requested for another country, which cannot change. Disconnect it first."""


class PaymentAccountRefused(Conflict):
    """The payment gateway refused the account. Change what it refused and try again."""


class PaymentAccountGone(Conflict):
    """The account was disconnected. Repeat the request to connect another one."""


class PaymentAccountInUse(Conflict):
    """A payment or refund on the account is unfinished. Disconnect when it has ended."""


class PaymentAccountNotDisconnected(Conflict):
    """This installation cannot disconnect accounts. Disconnect it at the payment gateway."""


class PaymentNotPaid(Conflict):
    """Nothing was paid yet. Only a paid payment can be refunded."""


class RefundExceedsPayment(Conflict):
    """The amount is more than what is left of the payment. Refund less."""


class PaymentDisputed(Conflict):
    """The payer's bank disputes this money. Refund at most what is not disputed."""


class WebhookNotVerified(AppError):
    """The body is not an event that the payment gateway signed within the last five minutes."""

    status = 400


class NotAcceptable(AppError):
    """An invoice is available as application/json and application/pdf. Accept one of them."""

    status = 406
