"""The upgrade's own rows in the audit trail.

The services do not run during the upgrade, so an event in an outbox would not reach the audit trail
before the operator verifies the upgrade. Therefore the event is passed to audit's own code as its
consumer does: inbox row and audit row in one transaction, with the chain's hash.
"""

from typing import Any
from uuid import uuid5

from deploy.upgrade.run.plan import Plan
from deploy.upgrade.targets import driver_url
from services.audit import handlers
from services.audit.events import CATALOGUE
from services.audit.evidence.drafts import draft_of
from shared.db import make_engine, now
from shared.events import Event, EventActor, EventData
from shared.transactions import Transactions

ACTION = "migration"
SOURCE = "carnet/upgrade"


def build_event(plan: Plan, outcome: str, details: dict[str, Any]) -> Event:
    """Return the event of an outcome. Its id is the same in every run of one upgrade."""
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
    """Append an event to the audit trail, unless it is there."""
    engine = make_engine(driver_url(audit_url), pool_size=1)
    try:
        transactions = Transactions(engine, SOURCE, CATALOGUE)
        async with transactions.system() as session:
            await handlers.handle.apply(session, handlers.QUEUE.name, [draft_of(event)])
    finally:
        await engine.dispose()
