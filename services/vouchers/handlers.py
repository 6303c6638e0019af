"""What this service receives, each message with our own small copy of its shape."""

from typing import Any

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.models import Base, ClientCopy, OrganizationCopy
from services.vouchers.service import refunds, settlement
from services.vouchers.service.default_types import DEFAULT_ORGANIZATION_SLUG, ensure_default_types
from services.vouchers.service.remote_copies import ClientState, OrganizationState, keep
from shared.bus import Queue
from shared.consumer import Handler
from shared.events import Event
from shared.fields import EventTime, ServiceData
from shared.money import Amount
from shared.shapes import Reading, Readings


class PaymentChanged(ServiceData):
    """What we read of `payments.payment.*`: how the payment of a voucher stands."""

    voucher_id: int
    status: str
    amount: Amount | None = None
    currency: str | None = None
    invoice_number: str | None = None
    completed_at: EventTime | None = None


class RefundSucceeded(ServiceData):
    """What we read of `payments.refund.succeeded`: one refund, and how much it makes in all."""

    voucher_id: int
    amount: Amount
    refunded_amount: Amount
    quote_id: int | None = None


class RefundFailed(ServiceData):
    """What we read of `payments.refund.failed`: which quote was not paid out."""

    voucher_id: int | None = None
    quote_id: int | None = None


class DisputeChanged(ServiceData):
    """What we read of `payments.dispute.*`: whether the bank takes a voucher's money back."""

    voucher_id: int
    status: str


async def payment_changed(session: AsyncSession, event: Event) -> None:
    """Activate the voucher that was paid, cancel the one that will not be."""
    payment = PaymentChanged.model_validate(event.data.new_values)
    outcome = settlement.Outcome(
        status=payment.status,
        invoice_number=payment.invoice_number,
        completed_at=payment.completed_at,
        amount=payment.amount,
        currency=payment.currency,
    )
    await settlement.settle(session, payment.voucher_id, outcome)


async def refund_succeeded(session: AsyncSession, event: Event) -> None:
    """Take the sessions that went with the money; a voucher whose money is all back ends."""
    refund = RefundSucceeded.model_validate(event.data.new_values)
    returned = refunds.Returned(refund.amount, refund.refunded_amount, refund.quote_id)
    await refunds.refunded(session, refund.voucher_id, returned)


async def refund_failed(session: AsyncSession, event: Event) -> None:
    """Give the sessions of a quote again whose money did not go back."""
    refund = RefundFailed.model_validate(event.data.new_values)
    if refund.voucher_id is not None and refund.quote_id is not None:
        await refunds.not_refunded(session, refund.voucher_id, refund.quote_id)


async def dispute_changed(session: AsyncSession, event: Event) -> None:
    """Suspend the voucher whose payment is disputed, and let it go on or end."""
    dispute = DisputeChanged.model_validate(event.data.new_values)
    if event.data.entity_id is None:
        raise ValueError(f"{event.type} names no dispute")
    status = dispute.status
    await refunds.disputed(session, dispute.voucher_id, event.data.entity_id, status=status)


async def organization_created(session: AsyncSession, event: Event) -> None:
    """Keep a copy of a new organization; the default one starts with voucher types."""
    state = OrganizationState.model_validate(_created(event))
    await keep(session, OrganizationCopy, state.model_dump())
    if state.slug == DEFAULT_ORGANIZATION_SLUG:
        organization = await session.get_one(OrganizationCopy, state.id)
        await ensure_default_types(session, organization)


async def organization_changed(session: AsyncSession, event: Event) -> None:
    """Bring the copy up to date."""
    changes = OrganizationState.changes_in(event.data.new_values)
    await _apply(session, OrganizationCopy, event, changes)


async def user_created(session: AsyncSession, event: Event) -> None:
    """Keep a copy of a new user."""
    state = ClientState.model_validate(_created(event))
    await keep(session, ClientCopy, state.model_dump())


async def user_changed(session: AsyncSession, event: Event) -> None:
    """Bring the copy up to date."""
    changes = ClientState.changes_in(event.data.new_values)
    await _apply(session, ClientCopy, event, changes)


async def user_deleted(session: AsyncSession, event: Event) -> None:
    """Forget who it was: the id stays, with nobody behind it."""
    await _apply(session, ClientCopy, event, {"name": None, "email": None, "is_active": False})


def _created(event: Event) -> dict[str, Any]:
    known = {"id": event.data.entity_id, "version": event.data.entity_version}
    return event.data.new_values | known


async def _apply(
    session: AsyncSession, model: type[Base], event: Event, changes: dict[str, Any]
) -> None:
    """Change a copy that is older than the event; one that is missing is fetched when needed."""
    columns = model.__table__.c
    values = changes | {"id": event.data.entity_id, "version": event.data.entity_version}
    await session.execute(
        update(model)
        .where(columns.id == event.data.entity_id, columns.version < event.data.entity_version)
        .values(values)
        .execution_options(synchronize_session=False)
    )


PAYMENTS: dict[str, Handler] = {
    "payments.payment.succeeded.v1": payment_changed,
    "payments.payment.failed.v1": payment_changed,
    "payments.payment.cancelled.v1": payment_changed,
    "payments.refund.succeeded.v1": refund_succeeded,
    "payments.refund.failed.v1": refund_failed,
    "payments.dispute.opened.v1": dispute_changed,
    "payments.dispute.closed.v1": dispute_changed,
}
ORGANIZATIONS: dict[str, Handler] = {
    "organizations.organization.created.v1": organization_created,
    "organizations.organization.updated.v1": organization_changed,
    "organizations.organization.deactivated.v1": organization_changed,
}
CLIENTS: dict[str, Handler] = {
    "identity.user.created.v1": user_created,
    "identity.user.updated.v1": user_changed,
    "identity.user.approved.v1": user_changed,
    "identity.user.deleted.v1": user_deleted,
}

QUEUES: dict[Queue, dict[str, Handler]] = {
    Queue("vouchers.payments", tuple(PAYMENTS)): PAYMENTS,
    Queue("vouchers.organizations", tuple(ORGANIZATIONS)): ORGANIZATIONS,
    Queue("vouchers.clients", tuple(CLIENTS)): CLIENTS,
}
"""Each queue with its handlers; it is bound to exactly what they handle."""

_KEYS = frozenset({"id", "version"})
_PAYMENT = Reading(PaymentChanged)
_ORGANIZATION_CHANGED = Reading(OrganizationState, partial=True, from_envelope=_KEYS)
_CLIENT_CHANGED = Reading(ClientState, partial=True, from_envelope=_KEYS)

READINGS: Readings = {
    "payments.payment.succeeded.v1": _PAYMENT,
    "payments.payment.failed.v1": _PAYMENT,
    "payments.payment.cancelled.v1": _PAYMENT,
    "payments.refund.succeeded.v1": Reading(RefundSucceeded),
    "payments.refund.failed.v1": Reading(RefundFailed),
    "payments.dispute.opened.v1": Reading(DisputeChanged),
    "payments.dispute.closed.v1": Reading(DisputeChanged),
    "organizations.organization.created.v1": Reading(OrganizationState, from_envelope=_KEYS),
    "organizations.organization.updated.v1": _ORGANIZATION_CHANGED,
    "organizations.organization.deactivated.v1": _ORGANIZATION_CHANGED,
    "identity.user.created.v1": Reading(ClientState, from_envelope=_KEYS),
    "identity.user.updated.v1": _CLIENT_CHANGED,
    "identity.user.approved.v1": _CLIENT_CHANGED,
    "identity.user.deleted.v1": Reading(),
}
