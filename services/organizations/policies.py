"""Who may do what: pure functions of the actor and the organization."""

from shared.actors import Actor


def can_see(actor: Actor, organization_id: int) -> bool:
    """Members see their organization, administrators every one."""
    return actor.is_admin or actor.organization_id == organization_id


def can_manage(actor: Actor, organization_id: int) -> bool:
    """Owners manage their organization, and whom they allowed to."""
    return actor.may("manage_organization", organization_id)
