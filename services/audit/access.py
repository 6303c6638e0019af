"""Who may reach what: 404 for strangers, 403 for members without the permission."""

from services.audit import policies
from services.audit.errors import OrganizationNotFound
from shared.actors import Actor
from shared.errors import Forbidden


def require_admin(actor: Actor) -> None:
    """Raise Forbidden for everyone except administrators of the system."""
    if not actor.is_admin:
        raise Forbidden("Only administrators of the system may read the whole audit trail.")


def require_reader(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for strangers, and Forbidden for members without permission."""
    if not policies.can_see_organization(actor, organization_id):
        raise OrganizationNotFound
    actor.require(policies.VIEW_AUDIT_LOGS, organization_id)
