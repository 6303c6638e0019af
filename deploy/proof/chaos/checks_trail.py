"""Checks of the path from commit to audit row: lost, unexpected, duplicate or unordered events."""

from deploy.proof.chaos.checks import Evidence, StateCheck, Violations, query
from deploy.proof.chaos.platform import untaken_events

_LOST = """
SELECT r.* FROM chaos.recorded r LEFT JOIN audit.audit_logs a USING (event_id)
WHERE a.event_id IS NULL ORDER BY r.seq
"""
_UNEXPECTED = """
SELECT a.id, a.service, a.action, a.event_id FROM audit.audit_logs a
WHERE NOT EXISTS (SELECT FROM chaos.recorded r WHERE r.event_id = a.event_id)
AND NOT EXISTS (SELECT FROM chaos.before b WHERE b.event_id = a.event_id)
"""
_TWICE = "SELECT event_id FROM audit.audit_logs GROUP BY event_id HAVING count(*) > 1"
_CHANGED_ON_THE_WAY = """
SELECT r.event_id FROM chaos.recorded r JOIN audit.audit_logs a USING (event_id)
WHERE (r.service, r.action, r.entity_type) <> (a.service, a.action, a.entity_type)
OR r.entity_id IS DISTINCT FROM a.entity_id
OR r.organization_id IS DISTINCT FROM a.organization_id
"""
# Version 0 belongs to events that changed no row. Their order is not defined.
_INVERTED = """
SELECT * FROM (
    SELECT r.service, r.entity_type, r.entity_id, r.entity_version, a.id,
           lag(r.entity_version) OVER (
               PARTITION BY r.service, r.entity_type, r.entity_id ORDER BY a.id
           ) AS before
    FROM chaos.recorded r JOIN audit.audit_logs a USING (event_id)
    WHERE r.entity_version > 0
) ordered WHERE before > entity_version
"""


async def find_not_taken(evidence: Evidence) -> Violations:
    return await untaken_events(evidence.rows)


async def find_in_queues(evidence: Evidence) -> Violations:
    waiting = await evidence.platform.waiting_messages()
    return [f"{name}: {count}" for name, count in waiting.items() for _ in range(count)]


async def find_in_outboxes(evidence: Evidence) -> Violations:
    waiting = await evidence.platform.waiting_events()
    return [f"{name}: {count}" for name, count in waiting.items() for _ in range(count)]


async def find_chains(evidence: Evidence) -> Violations:
    """Verify the chains with the command of `carnet audit verify`."""
    stack = evidence.platform.stack
    name, environment = "audit-verify", stack.system.service("audit")
    program = stack.system.own_program(name, "services.audit.verify", environment)
    code = await stack.supervisor.run_to_end(program)
    lines = stack.supervisor.log_of(name).read_text().splitlines()
    return [line for line in lines if "WRONG" in line] or [f"exit code {code}"] * bool(code)


_ORGANIZATION_COPIES = """
SELECT o.id FROM organizations.organizations o LEFT JOIN vouchers.organization_copies c USING (id)
WHERE (c.version, c.name, c.is_active) IS DISTINCT FROM (o.version, o.name, o.is_active)
AND o.id IN (SELECT entity_id FROM chaos.recorded WHERE entity_type = 'organization')
"""
_CLIENT_COPIES = """
SELECT u.id, u.version, c.version AS copied FROM identity.users u
JOIN vouchers.client_copies c USING (id)
WHERE (c.name, c.is_active) IS DISTINCT FROM (u.name, u.is_active)
"""

CHECKS = [
    query("trail", "events lost before the audit trail", _LOST),
    query("trail", "audit rows without a recorded event", _UNEXPECTED),
    query("trail", "events in the audit trail twice", _TWICE),
    query("trail", "events altered in transit", _CHANGED_ON_THE_WAY),
    query("trail", "order inverted within an entity", _INVERTED),
    StateCheck("trail", "events that a consumer never handled", find_not_taken),
    StateCheck("trail", "audit chains that do not verify", find_chains),
    StateCheck("queues", "events left in outboxes", find_in_outboxes),
    StateCheck("queues", "messages left in queues, dead letters included", find_in_queues),
    query("copies", "organizations whose copy is stale", _ORGANIZATION_COPIES),
    query("copies", "clients whose copy is stale", _CLIENT_COPIES),
]
