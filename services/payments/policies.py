"""Who may do what: pure functions of the actor and the payment or the organization."""

from services.payments.models import PaymentTransaction, SavedCard
from shared.actors import Actor

VIEW_PAYMENTS = "view_payments"
MANAGE_PAYMENTS = "manage_payments"


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """Members may see their own organization, administrators every organization."""
    return actor.is_admin or actor.organization_id == organization_id


def can_view_payments(actor: Actor, organization_id: int) -> bool:
    """A user may view an organization's payments with the permission to view or to manage them."""
    return actor.may(VIEW_PAYMENTS, organization_id) or actor.may(MANAGE_PAYMENTS, organization_id)


def can_see(actor: Actor, payment: PaymentTransaction) -> bool:
    """A payer may see an own payment; others need the permission to view the organization's."""
    return is_payer(actor, payment) or can_view_payments(actor, payment.organization_id)


def owns_card(actor: Actor, card: SavedCard) -> bool:
    """A saved card is its client's own."""
    return card.client_id == actor.user_id


def is_payer(actor: Actor, payment: PaymentTransaction) -> bool:
    """The payer is the client who bought the voucher."""
    return payment.client_id == actor.user_id
