"""Who may reach what: 404 for strangers, 403 for members without the permission."""

from services.payments import policies
from services.payments.errors import OrganizationNotFound, PaymentNotFound, SavedCardNotFound
from services.payments.models import PaymentTransaction, SavedCard
from shared.actors import Actor, permission_missing
from shared.errors import Forbidden


def require_member(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for an actor who may not see the organization."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound


def require_viewer(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, Forbidden for members who may not view payments."""
    require_member(actor, organization_id)
    if not policies.can_view_payments(actor, organization_id):
        raise permission_missing(policies.VIEW_PAYMENTS)


def require_manager(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, Forbidden for members who may not manage them."""
    require_member(actor, organization_id)
    actor.require(policies.MANAGE_PAYMENTS, organization_id)


def require_administrator(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, Forbidden for members: it is for administrators."""
    require_member(actor, organization_id)
    if not actor.is_admin:
        raise Forbidden("Only administrators of the system may do this.")


def require_visible(actor: Actor, payment: PaymentTransaction) -> None:
    """Raise PaymentNotFound unless the actor may see the payment."""
    if not policies.can_see(actor, payment):
        raise PaymentNotFound


def require_owner(actor: Actor, card: SavedCard) -> None:
    """Raise SavedCardNotFound for strangers, Forbidden for those who see the card of another."""
    if policies.owns_card(actor, card):
        return
    if not policies.can_view_payments(actor, card.organization_id):
        raise SavedCardNotFound
    raise Forbidden("Only the owner of the card can do this.")


def require_payer(actor: Actor, payment: PaymentTransaction) -> None:
    """Raise PaymentNotFound for strangers, Forbidden for those who see the payment of another."""
    require_visible(actor, payment)
    if not policies.is_payer(actor, payment):
        raise Forbidden("Only the payer can confirm a payment.")
