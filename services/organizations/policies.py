"""Who may do what: pure functions of the actor and the organization."""

from shared.actors import Actor

MANAGE_ORGANIZATION = "manage_organization"


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """Members may see their own organization, administrators every organization."""
    return actor.is_admin or actor.organization_id == organization_id
