"""The events that this service receives, each with the fields that it reads."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import ClientCopy, OrganizationCopy, PaymentAccountCopy
from services.vouchers.service import (
    default_types,
    feeds,
    leavers,
    refunds,
    remote_copies,
    settlement,
    therapists,
)
from services.vouchers.service.remote_copies import (
    ClientState,
    DependantState,
    OrganizationState,
    store_copy,
    update_copy,
)
from shared.bus import Queue
from shared.consumer import Handler
from shared.events import Event
from shared.fallbacks import Fallback
from shared.fields import EventTime, ServiceData
from shared.money import Amount
from shared.shapes import EventReading, EventReadings


class PaymentChanged(ServiceData):
    """The fields of `payments.payment.*`: the state of a voucher's payment."""

    voucher_id: int
    status: str
    amount: Amount | None = None
    currency: str | None = None
    invoice_number: str | None = None
    completed_at: EventTime | None = None


class RefundSucceeded(ServiceData):
    """The fields of `payments.refund.succeeded`: one refund, and the total of all refunds."""

    voucher_id: int
    amount: Amount
    refunded_amount: Amount
    quote_id: int | None = None


class RefundFailed(ServiceData):
    """The fields of `payments.refund.failed`: the quote whose refund failed."""

    voucher_id: int | None = None
    quote_id: int | None = None


class DisputeChanged(ServiceData):
    """The fields of `payments.dispute.*`: the state of a dispute about a voucher's payment."""

    voucher_id: int
    status: str


class PaymentAccountState(ServiceData):
    """The fields of `payments.payment_account.*`: every event has all of them."""

    id: int
    version: int
    organization_id: int
    status: str
    charges_enabled: bool
    live: bool


async def apply_payment(session: AsyncSession, event: Event) -> None:
    """Activate a voucher that was paid, cancel one whose payment failed."""
    payment = PaymentChanged.model_validate(event.data.new_values)
    report = settlement.PaymentReport(
        status=payment.status,
        invoice_number=payment.invoice_number,
        completed_at=payment.completed_at,
        amount=payment.amount,
        currency=payment.currency,
    )
    await settlement.apply_payment(session, payment.voucher_id, report)


async def find_settled(session: AsyncSession, events: Sequence[Event]) -> set[str]:
    """Return the successes that their vouchers show already, with the same money and invoice."""
    payments = [(e.id, PaymentChanged.model_validate(e.data.new_values)) for e in events]
    complete = [
        (event_id, payment.voucher_id, payment.amount, payment.currency, payment.invoice_number)
        for event_id, payment in payments
        if payment.amount is not None and payment.currency and payment.invoice_number
    ]
    return await queries.list_settled(session, complete) if complete else set()


async def apply_refund(session: AsyncSession, event: Event) -> None:
    """Remove the refunded sessions; cancel a voucher whose money was refunded in full."""
    refund = RefundSucceeded.model_validate(event.data.new_values)
    report = refunds.RefundReport(refund.amount, refund.refunded_amount, refund.quote_id)
    await refunds.apply_refund(session, refund.voucher_id, report)


async def apply_failed_refund(session: AsyncSession, event: Event) -> None:
    """Restore the sessions of a quote whose refund failed."""
    refund = RefundFailed.model_validate(event.data.new_values)
    if refund.voucher_id is not None and refund.quote_id is not None:
        await refunds.apply_failed_refund(session, refund.voucher_id, refund.quote_id)


async def apply_dispute(session: AsyncSession, event: Event) -> None:
    """Suspend a voucher whose payment is disputed; afterwards resume or cancel it."""
    dispute = DisputeChanged.model_validate(event.data.new_values)
    if event.data.entity_id is None:
        raise ValueError(f"{event.type} names no dispute")
    status = dispute.status
    await refunds.apply_dispute(session, dispute.voucher_id, event.data.entity_id, status=status)


async def store_payment_account(session: AsyncSession, event: Event) -> None:
    """Store a copy of an organization's account at a gateway: whether cards can be charged."""
    owner = {"organization_id": event.data.organization_id}
    state = PaymentAccountState.model_validate(_new_values(event) | owner)
    await store_copy(session, PaymentAccountCopy, state.model_dump())


async def store_organization(session: AsyncSession, event: Event) -> None:
    """Store a copy of a new organization; the default one starts with the default types."""
    state = OrganizationState.model_validate(_new_values(event))
    await default_types.store_organization(session, state)


async def update_organization(session: AsyncSession, event: Event) -> None:
    """Update the copy of an organization."""
    changes = OrganizationState.changes_in(event.data.new_values)
    await update_copy(
        session, OrganizationCopy, event.data.entity_id, event.data.entity_version, changes
    )


async def store_client(session: AsyncSession, event: Event) -> None:
    """Store a copy of a new user."""
    state = ClientState.model_validate(_new_values(event))
    await store_copy(session, ClientCopy, state.model_dump())
    await therapists.follow_user(session, state.id)


async def update_client(session: AsyncSession, event: Event) -> None:
    """Update the copy of a user."""
    changes = ClientState.changes_in(event.data.new_values)
    await update_copy(session, ClientCopy, event.data.entity_id, event.data.entity_version, changes)
    await therapists.follow_user(session, event.data.entity_id)


async def store_dependant(session: AsyncSession, event: Event) -> None:
    """Store a copy of a new dependant, as a client without an address."""
    state = DependantState.model_validate(_new_values(event))
    await remote_copies.store_dependant(session, state)


async def update_dependant(session: AsyncSession, event: Event) -> None:
    """Update the copy of a dependant."""
    changes = DependantState.changes_in(event.data.new_values)
    await update_copy(session, ClientCopy, event.data.entity_id, event.data.entity_version, changes)


async def erase_client(session: AsyncSession, event: Event) -> None:
    """Remove the personal data from the copy of a deleted user or dependant, whose id stays, cancel
    what they have booked, and revoke their calendar feeds."""
    changes = {"name": None, "email": None, "is_active": False}
    await update_copy(session, ClientCopy, event.data.entity_id, event.data.entity_version, changes)
    # First, because it locks vouchers, which everybody locks before resources.
    if event.data.entity_id is not None:
        await leavers.end_bookings(session, event.data.entity_id)
    await feeds.revoke_feeds_of(session, event.data.entity_id)
    await therapists.follow_user(session, event.data.entity_id)


def _new_values(event: Event) -> dict[str, Any]:
    keys = {"id": event.data.entity_id, "version": event.data.entity_version}
    return event.data.new_values | keys


PAYMENTS: dict[str, Handler] = {
    "payments.payment.succeeded.v1": apply_payment,
    "payments.payment.failed.v1": apply_payment,
    "payments.payment.cancelled.v1": apply_payment,
    "payments.refund.succeeded.v1": apply_refund,
    "payments.refund.failed.v1": apply_failed_refund,
    "payments.dispute.opened.v1": apply_dispute,
    "payments.dispute.closed.v1": apply_dispute,
    "payments.payment_account.created.v1": store_payment_account,
    "payments.payment_account.connected.v1": store_payment_account,
    "payments.payment_account.updated.v1": store_payment_account,
    "payments.payment_account.disconnected.v1": store_payment_account,
}
ORGANIZATIONS: dict[str, Handler] = {
    "organizations.organization.created.v1": store_organization,
    "organizations.organization.updated.v1": update_organization,
    "organizations.organization.deactivated.v1": update_organization,
}
CLIENTS: dict[str, Handler] = {
    "identity.user.created.v1": store_client,
    "identity.user.updated.v1": update_client,
    "identity.user.approved.v1": update_client,
    "identity.user.deleted.v1": erase_client,
    "identity.dependant.created.v1": store_dependant,
    "identity.dependant.updated.v1": update_dependant,
    "identity.dependant.deleted.v1": erase_client,
}

QUEUES: dict[Queue, dict[str, Handler]] = {
    Queue("vouchers.payments", tuple(PAYMENTS)): PAYMENTS,
    Queue("vouchers.organizations", tuple(ORGANIZATIONS)): ORGANIZATIONS,
    Queue("vouchers.clients", tuple(CLIENTS)): CLIENTS,
}
"""Each queue with its handlers; it is bound to the event types that they handle."""

FALLBACKS = {
    "vouchers.payments": Fallback(frozenset({"payments.payment.succeeded.v1"}), 0.25, find_settled)
}
"""Nearly every success is in the answer to the charge. The wait is short, because of payers who
have confirmed a payment and now wait for their voucher."""

_KEYS = frozenset({"id", "version"})
_PAYMENT = EventReading(PaymentChanged)
_ORGANIZATION_CHANGED = EventReading(OrganizationState, partial=True, from_envelope=_KEYS)
_PAYMENT_ACCOUNT = EventReading(PaymentAccountState, from_envelope=_KEYS | {"organization_id"})
_CLIENT_CHANGED = EventReading(ClientState, partial=True, from_envelope=_KEYS)

READINGS: EventReadings = {
    "payments.payment.succeeded.v1": _PAYMENT,
    "payments.payment.failed.v1": _PAYMENT,
    "payments.payment.cancelled.v1": _PAYMENT,
    "payments.refund.succeeded.v1": EventReading(RefundSucceeded),
    "payments.refund.failed.v1": EventReading(RefundFailed),
    "payments.dispute.opened.v1": EventReading(DisputeChanged),
    "payments.dispute.closed.v1": EventReading(DisputeChanged),
    "payments.payment_account.created.v1": _PAYMENT_ACCOUNT,
    "payments.payment_account.connected.v1": _PAYMENT_ACCOUNT,
    "payments.payment_account.updated.v1": _PAYMENT_ACCOUNT,
    "payments.payment_account.disconnected.v1": _PAYMENT_ACCOUNT,
    "organizations.organization.created.v1": EventReading(OrganizationState, from_envelope=_KEYS),
    "organizations.organization.updated.v1": _ORGANIZATION_CHANGED,
    "organizations.organization.deactivated.v1": _ORGANIZATION_CHANGED,
    "identity.user.created.v1": EventReading(ClientState, from_envelope=_KEYS),
    "identity.user.updated.v1": _CLIENT_CHANGED,
    "identity.user.approved.v1": _CLIENT_CHANGED,
    "identity.user.deleted.v1": EventReading(),
    "identity.dependant.created.v1": EventReading(DependantState, from_envelope=_KEYS),
    "identity.dependant.updated.v1": EventReading(
        DependantState, partial=True, from_envelope=_KEYS
    ),
    "identity.dependant.deleted.v1": EventReading(),
}
