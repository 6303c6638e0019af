"""Checks of access: 404 for what an actor may not see, 403 for what they may see but not do."""

from services.payments import policies
from services.payments.errors import OrganizationNotFound, PaymentNotFound
from services.payments.models import PaymentTransaction
from shared.actors import Actor
from shared.errors import Forbidden


def require_view(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, Forbidden for members who may not view payments."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound
    if not policies.can_view_payments(actor, organization_id):
        raise Forbidden(
            f"This needs the permission {policies.VIEW}. Ask an owner of the organization."
        )


def require_manage(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, Forbidden for members who may not manage them."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound
    if not policies.can_manage_payments(actor, organization_id):
        raise Forbidden(
            f"This needs the permission {policies.MANAGE}. Ask an owner of the organization."
        )


def require_visible(actor: Actor, payment: PaymentTransaction) -> None:
    """Raise PaymentNotFound unless the actor may see the payment."""
    if not policies.can_see(actor, payment):
        raise PaymentNotFound


def require_payer(actor: Actor, payment: PaymentTransaction) -> None:
    """Raise PaymentNotFound for strangers, Forbidden for those who see the payment of another."""
    require_visible(actor, payment)
    if not policies.is_payer(actor, payment):
        raise Forbidden("Only the payer can confirm a payment.")
