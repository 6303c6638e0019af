"""What this service receives, and its own small copies of it."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.gateways import Gateways
from services.payments.models import Method
from services.payments.schemas import Buyer, QuotedRefund, Seller, Terms
from services.payments.service import invoices, payments, refunds
from shared.bus import Queue
from shared.consumer import Handler
from shared.events import Event
from shared.fields import Choice, ServiceData
from shared.money import Amount
from shared.shapes import Reading, Readings

VOUCHERS = Queue(
    "payments.vouchers",
    (
        "vouchers.voucher.purchased.v1",
        "vouchers.voucher.cancelled.v1",
        "vouchers.voucher.refund_requested.v1",
    ),
)


class PurchasedVoucher(ServiceData):
    """What a purchase says of the payment it needs. `payment_amount` differs from the price only
    where vouchers says so."""

    client_id: int
    organization_id: int
    price: Amount
    payment_amount: Amount | None = None
    currency: str
    payment_method: Choice[Method]
    name: str
    buyer: Buyer
    seller: Seller

    def terms(self, voucher_id: int) -> Terms:
        """Return what is to be paid."""
        return Terms(
            voucher_id=voucher_id,
            organization_id=self.organization_id,
            client_id=self.client_id,
            amount=self.price if self.payment_amount is None else self.payment_amount,
            currency=self.currency,
            payment_method=self.payment_method,
            description=self.name,
            buyer=self.buyer,
            seller=self.seller,
        )


class CancelledVoucher(ServiceData):
    """What a cancellation says: why."""

    reason: str | None = None


class VoucherBefore(ServiceData):
    """What a cancellation says of the voucher as it was."""

    status: str | None = None


class RequestedRefund(ServiceData):
    """What a refund by quote says: how much of which payment goes back."""

    refund_quote_id: int
    transaction_id: int
    amount: Amount
    currency: str
    reason: str | None = None

    def order(self) -> QuotedRefund:
        """Return what is to be given back."""
        return QuotedRefund(
            quote_id=self.refund_quote_id, **self.model_dump(exclude={"refund_quote_id"})
        )


READINGS: Readings = {
    "vouchers.voucher.purchased.v1": Reading(PurchasedVoucher),
    "vouchers.voucher.cancelled.v1": Reading(CancelledVoucher, old_values=VoucherBefore),
    "vouchers.voucher.refund_requested.v1": Reading(RequestedRefund),
    "organizations.organization.updated.v1": Reading(Seller, partial=True),
    "organizations.organization.deactivated.v1": Reading(Seller, partial=True),
}

PAID_AFTER_CANCELLATION = "paid_after_cancellation"


def was_never_active(event: Event) -> bool:
    """Say whether the cancelled voucher gave its buyer nothing, so that all money goes back."""
    before = VoucherBefore.model_validate(event.data.old_values)
    now = CancelledVoucher.model_validate(event.data.new_values)
    return before.status == "pending" or now.reason == PAID_AFTER_CANCELLATION


def handlers(gateways: Gateways) -> dict[str, Handler]:
    """Return what is done with each type of event."""

    async def purchased(session: AsyncSession, event: Event) -> None:
        """Make the payment, if the call that should have did not come or was lost."""
        voucher = PurchasedVoucher.model_validate(event.data.new_values)
        terms = voucher.terms(_voucher_id(event))
        if await queries.lock_payment_of_voucher(session, terms.voucher_id) is None:
            await payments.open_payment(session, gateways, terms, attempting=False)

    async def cancelled(session: AsyncSession, event: Event) -> None:
        """Void the payment of a voucher that never became active.

        What an active voucher's buyer gets back is decided by staff, by the refund's quote.
        """
        payment = await queries.lock_payment_of_voucher(session, _voucher_id(event))
        if payment is not None and was_never_active(event):
            await payments.void(session, payment)

    async def refund_requested(session: AsyncSession, event: Event) -> None:
        """Note the refund, if the call that should have did not come or was lost.

        The timer of refunds makes it.
        """
        requested = RequestedRefund.model_validate(event.data.new_values)
        await refunds.promise_quoted(session, requested.order())

    return {
        "vouchers.voucher.purchased.v1": purchased,
        "vouchers.voucher.cancelled.v1": cancelled,
        "vouchers.voucher.refund_requested.v1": refund_requested,
    }


async def organization_changed(session: AsyncSession, event: Event) -> None:
    """Note what the organization is called now: invoices name the seller as it is when issued."""
    if event.data.entity_id is None:
        raise ValueError(f"{event.type} names no organization")
    changes = Seller.changes_in(event.data.new_values)
    version = event.data.entity_version
    await invoices.seller_changed(session, event.data.entity_id, version, changes)


def _voucher_id(event: Event) -> int:
    if event.data.entity_id is None:
        raise ValueError(f"{event.type} names no voucher")
    return event.data.entity_id


ORGANIZATION_HANDLERS: dict[str, Handler] = {
    "organizations.organization.updated.v1": organization_changed,
    "organizations.organization.deactivated.v1": organization_changed,
}
ORGANIZATIONS = Queue("payments.organizations", tuple(ORGANIZATION_HANDLERS))
