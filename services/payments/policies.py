"""Who may do what: pure functions of the actor and the payment."""

from services.payments.models import PaymentTransaction
from shared.actors import Actor

VIEW = "view_payments"
MANAGE = "manage_payments"


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """Members know that their organization exists, administrators know every one."""
    return actor.is_admin or actor.organization_id == organization_id


def can_view_payments(actor: Actor, organization_id: int) -> bool:
    """Owners see their organization's payments, and whom they allowed to; who manages, sees."""
    return actor.may(VIEW, organization_id) or actor.may(MANAGE, organization_id)


def can_manage_payments(actor: Actor, organization_id: int) -> bool:
    """Owners take and give back money, and whom they allowed to."""
    return actor.may(MANAGE, organization_id)


def can_see(actor: Actor, payment: PaymentTransaction) -> bool:
    """The payer sees a payment, and who may view the organization's."""
    return is_payer(actor, payment) or can_view_payments(actor, payment.organization_id)


def is_payer(actor: Actor, payment: PaymentTransaction) -> bool:
    """Say whether it is the actor who pays."""
    return payment.client_id == actor.user_id
