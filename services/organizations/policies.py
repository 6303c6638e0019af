"""Who may do what: pure functions of the actor and the organization."""

from shared.actors import Actor


def can_see(actor: Actor, organization_id: int) -> bool:
    """Members may see their own organization, administrators every organization."""
    return actor.is_admin or actor.organization_id == organization_id


def can_manage(actor: Actor, organization_id: int) -> bool:
    """Owners may change their organization, and so may users with `manage_organization`."""
    return actor.may("manage_organization", organization_id)
