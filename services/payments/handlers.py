"""The events that this service receives, each with the fields that it reads."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.gateways import Gateways
from services.payments.models import Method
from services.payments.schemas import Buyer, PaymentTerms, QuotedRefund, Seller
from services.payments.service import invoices, payments, refunds, saved_cards
from shared.bus import Queue
from shared.consumer import Handler
from shared.events import Event
from shared.fallbacks import Fallback
from shared.fields import Choice, ServiceData
from shared.money import Amount
from shared.shapes import EventReading, EventReadings

VOUCHERS = Queue(
    "payments.vouchers",
    (
        "vouchers.voucher.purchased.v1",
        "vouchers.voucher.cancelled.v1",
        "vouchers.voucher.refund_requested.v1",
    ),
)
ORGANIZATIONS = Queue(
    "payments.organizations",
    (
        "organizations.organization.updated.v1",
        "organizations.organization.deactivated.v1",
    ),
)


USERS = Queue("payments.users", ("identity.user.deleted.v1",))


class PurchasedVoucher(ServiceData):
    """The fields of a purchase that its payment needs.

    `payer_id` is the user who pays for the client, if another one does.
    `payment_amount` is what is to be paid when that is not the price.
    """

    client_id: int
    payer_id: int | None = None
    organization_id: int
    price: Amount
    payment_amount: Amount | None = None
    currency: str
    payment_method: Choice[Method]
    name: str
    buyer: Buyer
    seller: Seller

    def terms(self, voucher_id: int) -> PaymentTerms:
        """Return the terms of the payment."""
        return PaymentTerms(
            voucher_id=voucher_id,
            organization_id=self.organization_id,
            client_id=self.client_id if self.payer_id is None else self.payer_id,
            amount=self.price if self.payment_amount is None else self.payment_amount,
            currency=self.currency,
            payment_method=self.payment_method,
            description=self.name,
            buyer=self.buyer,
            seller=self.seller,
        )


class CancelledVoucher(ServiceData):
    """The reason of a cancellation."""

    reason: str | None = None


class VoucherBefore(ServiceData):
    """The state of a cancelled voucher before the cancellation."""

    status: str | None = None


class RequestedRefund(ServiceData):
    """A refund by quote: how much of which payment goes back."""

    refund_quote_id: int
    transaction_id: int
    amount: Amount
    currency: str
    reason: str | None = None

    def quoted_refund(self) -> QuotedRefund:
        """Return the refund as the call of vouchers has it."""
        return QuotedRefund(
            quote_id=self.refund_quote_id, **self.model_dump(exclude={"refund_quote_id"})
        )


READINGS: EventReadings = {
    "vouchers.voucher.purchased.v1": EventReading(PurchasedVoucher),
    "vouchers.voucher.cancelled.v1": EventReading(CancelledVoucher, old_values=VoucherBefore),
    "vouchers.voucher.refund_requested.v1": EventReading(RequestedRefund),
    "identity.user.deleted.v1": EventReading(),
    "organizations.organization.updated.v1": EventReading(Seller, partial=True),
    "organizations.organization.deactivated.v1": EventReading(Seller, partial=True),
}

PAID_AFTER_CANCELLATION = "paid_after_cancellation"


def was_never_active(event: Event) -> bool:
    """Return whether a cancelled voucher was never active, so that all its money goes back."""
    before = VoucherBefore.model_validate(event.data.old_values)
    now = CancelledVoucher.model_validate(event.data.new_values)
    return before.status == "pending" or now.reason == PAID_AFTER_CANCELLATION


def queues_of(gateways: Gateways) -> dict[Queue, dict[str, Handler]]:
    """Return the queues of this service, each with the handler of every event type."""

    async def open_payment(session: AsyncSession, event: Event) -> None:
        """Open the payment, if the call that should have done it did not arrive."""
        voucher = PurchasedVoucher.model_validate(event.data.new_values)
        await payments.open_missing(session, gateways, voucher.terms(_entity_id(event)))

    return {
        VOUCHERS: {
            "vouchers.voucher.purchased.v1": open_payment,
            "vouchers.voucher.cancelled.v1": void_payment,
            "vouchers.voucher.refund_requested.v1": create_refund,
        },
        USERS: {"identity.user.deleted.v1": remove_saved_cards},
        ORGANIZATIONS: {
            "organizations.organization.updated.v1": record_seller_changes,
            "organizations.organization.deactivated.v1": record_seller_changes,
        },
    }


async def find_opened(session: AsyncSession, events: Sequence[Event]) -> set[str]:
    """Return the purchases whose payment exists: the call of nearly every purchase arrives."""
    vouchers = {event.id: _entity_id(event) for event in events}
    voucher_ids = await queries.list_vouchers_with_payment(session, list(vouchers.values()))
    return {event_id for event_id, voucher_id in vouchers.items() if voucher_id in voucher_ids}


FALLBACKS = {
    VOUCHERS.name: Fallback(frozenset({"vouchers.voucher.purchased.v1"}), 1.0, find_opened)
}
"""A purchase that is younger than the call would only get in the call's way."""


async def void_payment(session: AsyncSession, event: Event) -> None:
    """Void the payment of a voucher that was never active.

    What the buyer of an active voucher gets back is decided by staff, with a refund quote.
    """
    if was_never_active(event):
        await payments.void_payment_of_voucher(session, _entity_id(event))


async def create_refund(session: AsyncSession, event: Event) -> None:
    """Create the refund, if the call that should have done it did not arrive.

    The timer of refunds makes it at the gateway.
    """
    request = RequestedRefund.model_validate(event.data.new_values)
    await refunds.create_quoted_refund(session, request.quoted_refund())


async def remove_saved_cards(session: AsyncSession, event: Event) -> None:
    """Remove the saved cards of a deleted user. The timer deletes them at the gateway."""
    await saved_cards.remove_cards_of_client(session, _entity_id(event))


async def record_seller_changes(session: AsyncSession, event: Event) -> None:
    """Record what changed of an organization: an invoice names the seller as it is when issued."""
    changes = Seller.changes_in(event.data.new_values)
    version = event.data.entity_version
    await invoices.record_seller_changes(session, _entity_id(event), version, changes)


def _entity_id(event: Event) -> int:
    if event.data.entity_id is None:
        raise ValueError(f"{event.type} names no entity")
    return event.data.entity_id
