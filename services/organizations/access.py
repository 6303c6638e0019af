"""Who may reach what: 404 for strangers, 403 for members without the permission."""

from services.organizations import policies
from services.organizations.errors import OrganizationNotFound
from shared.actors import Actor
from shared.errors import Forbidden


def require_admin(actor: Actor) -> None:
    """Raise Forbidden for everyone except administrators of the system."""
    if not actor.is_admin:
        raise Forbidden("Only administrators of the system may do this.")


def require_visible(actor: Actor, organization_id: int) -> None:
    """Raise OrganizationNotFound for an actor who may not see the organization."""
    if not policies.can_see(actor, organization_id):
        raise OrganizationNotFound


def require_manager(actor: Actor, organization_id: int) -> None:
    """Raise Forbidden for an actor who may not change the organization."""
    if not policies.can_manage(actor, organization_id):
        raise Forbidden("Ask an owner of the organization for the permission manage_organization.")
