"""Who may read the audit trail: pure functions of the actor and the organization."""

from shared.actors import Actor


def can_see(actor: Actor, organization_id: int) -> bool:
    """Members may see their own organization, administrators every organization."""
    return actor.is_admin or actor.organization_id == organization_id


def can_read_log(actor: Actor, organization_id: int) -> bool:
    """Owners may read their organization's log, and so may users with `view_audit_logs`."""
    return actor.may("view_audit_logs", organization_id)
