"""The upgrade's own rows in the audit trail.

The services rest while the upgrade runs, so nobody would take an event from an outbox to the
trail before the operator verifies. The event is therefore handed to audit's own code as its
consumer would: inbox row and audit row in one transaction, chained as any other.
"""

from typing import Any
from uuid import uuid5

from deploy.upgrade.run.plan import Plan
from deploy.upgrade.targets import driver_url
from services.audit import handlers
from services.audit.events import CATALOGUE
from services.audit.evidence.drafts import draft_of
from shared import inbox
from shared.db import make_engine, now
from shared.events import Event, EventActor, EventData
from shared.transactions import Transactions

ACTION = "migration"
SOURCE = "carnet/upgrade"


def build_event(plan: Plan, outcome: str, details: dict[str, Any]) -> Event:
    """Return the event of an outcome; its id is the same however often it is told."""
    correlation = str(plan.upgrade_id)
    data = EventData(
        action=ACTION,
        entity_type="system",
        entity_id=None,
        entity_version=0,
        organization_id=plan.organization_id,
        actor=EventActor(role="system"),
        correlation_id=correlation,
        old_values={},
        new_values={"outcome": outcome, **details},
    )
    return Event(
        id=str(uuid5(plan.upgrade_id, outcome)),
        source=SOURCE,
        type=f"upgrade.system.{outcome}.v1",
        time=now(),
        subject="system/v1",
        data=data,
    )


async def append(audit_url: str, event: Event) -> None:
    """Append an event to the audit trail, once."""
    engine = make_engine(driver_url(audit_url), pool_size=1)
    try:
        transactions = Transactions(engine, SOURCE, CATALOGUE)
        async with transactions.system() as session:
            if new := await inbox.take(session, handlers.QUEUE.name, [draft_of(event)]):
                await handlers.handle(session, new)
    finally:
        await engine.dispose()
