"""Rows as the API shows them."""

from services.payments.models import PaymentTransaction
from services.payments.policies import can_view_payments, is_payer
from services.payments.schemas import ChargeRead, FailureRead, NextAction, PaymentRead
from services.payments.states import Status
from shared.actors import Actor


def charge_read(payment: PaymentTransaction, number: str | None) -> ChargeRead:
    """Show how a charge stands."""
    return ChargeRead(
        transaction_id=payment.id,
        status=payment.status,
        next_action=_next_action(payment),
        failure=_failure(payment),
        invoice_number=number,
        completed_at=payment.completed_at,
    )


def payment_read(payment: PaymentTransaction, number: str | None, actor: Actor) -> PaymentRead:
    """Show a payment to its payer or to staff.

    The secret by which it can be confirmed is the payer's alone; what staff noted, and why it was
    set aside, is for who may view the organization's payments.
    """
    to_staff = can_view_payments(actor, payment.organization_id)
    return PaymentRead(
        id=payment.id,
        voucher_id=payment.voucher_id,
        organization_id=payment.organization_id,
        client_id=payment.client_id,
        amount=payment.amount,
        currency=payment.currency,
        payment_method=payment.payment_method,
        payment_gateway=payment.payment_gateway,
        gateway_transaction_id=payment.gateway_transaction_id,
        status=payment.status,
        captured_amount=payment.captured_amount,
        refunded_amount=payment.refunded_amount,
        disputed_amount=payment.disputed_amount,
        description=payment.description,
        failure=_failure(payment),
        quarantine_reason=payment.quarantine_reason if to_staff else None,
        note=payment.note if to_staff else None,
        next_action=_next_action(payment) if is_payer(actor, payment) else None,
        invoice_number=number,
        created_at=payment.created_at,
        completed_at=payment.completed_at,
    )


def _failure(payment: PaymentTransaction) -> FailureRead | None:
    if payment.failure_code is None:
        return None
    return FailureRead(code=payment.failure_code, message=payment.failure_message or "")


def _next_action(payment: PaymentTransaction) -> NextAction | None:
    """Return what the payer must do; nothing any more once the voucher was cancelled."""
    waits = payment.status == Status.REQUIRES_ACTION and payment.void_requested_at is None
    if not waits or payment.next_action is None:
        return None
    return NextAction.model_validate(payment.next_action)
