"""Who may read the audit trail: pure functions of the actor and the organization."""

from shared.actors import Actor


def can_see(actor: Actor, organization_id: int) -> bool:
    """Members know of their organization, administrators of every one."""
    return actor.is_admin or actor.organization_id == organization_id


def can_read_log(actor: Actor, organization_id: int) -> bool:
    """Owners read their organization's log, and whom they allowed to."""
    return actor.may("view_audit_logs", organization_id)
