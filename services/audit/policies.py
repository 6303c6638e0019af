"""Who may read the audit trail: pure functions of the actor and the organization."""

from shared.actors import Actor

VIEW_AUDIT_LOGS = "view_audit_logs"


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """Members may see their own organization, administrators every organization."""
    return actor.is_admin or actor.organization_id == organization_id
