"""Policies: pure functions of the actor and the payment or the organization."""

from services.payments.models import PaymentTransaction
from shared.actors import Actor

VIEW = "view_payments"
MANAGE = "manage_payments"


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """A member may know that the organization exists, an administrator that any one does."""
    return actor.is_admin or actor.organization_id == organization_id


def can_view_payments(actor: Actor, organization_id: int) -> bool:
    """A user may view an organization's payments with the permission to view or to manage them."""
    return actor.may(VIEW, organization_id) or actor.may(MANAGE, organization_id)


def can_manage_payments(actor: Actor, organization_id: int) -> bool:
    """A user may mark payments as paid and refund them with the permission to manage them."""
    return actor.may(MANAGE, organization_id)


def can_see(actor: Actor, payment: PaymentTransaction) -> bool:
    """A payer may see an own payment; others need the permission to view the organization's."""
    return is_payer(actor, payment) or can_view_payments(actor, payment.organization_id)


def is_payer(actor: Actor, payment: PaymentTransaction) -> bool:
    """The payer is the client who bought the voucher."""
    return payment.client_id == actor.user_id
