"""The unit of work: one transaction with its tenant, its origin and its recorded changes.

Nobody else commits. A request or a message has one transaction, committed before the answer
leaves or the message is acknowledged; a use case that must call the outside world opens several
by itself, so that none is open during the call.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from shared.changes import AuditedSession, Catalogue, ChangeLog, attach, change_log, seal
from shared.context import Origin, system_origin
from shared.events import Event, Received
from shared.failpoints import failpoint
from shared.tenancy import EVERYTHING, Tenant, limit_to


class Transactions:
    """Opens the transactions of one service."""

    def __init__(self, engine: AsyncEngine, source: str, catalogue: Catalogue) -> None:
        self.engine = engine
        self.source = source
        self.catalogue = catalogue
        self._sessions = async_sessionmaker(
            engine, sync_session_class=AuditedSession, expire_on_commit=False
        )

    @asynccontextmanager
    async def begin(self, origin: Origin, tenant: Tenant) -> AsyncIterator[AsyncSession]:
        """Yield a session in a transaction that commits at the end, or rolls back on an error.

        Raises UnrecordedChange when an audited row changed and nothing was recorded of it.
        """
        async with self._sessions() as session:
            attach(session, ChangeLog(self.source, self.catalogue, origin))
            await limit_to(session, tenant)
            yield session
            await seal(session)
            failpoint("transaction.before_commit")
            await session.commit()
            failpoint("transaction.committed")

    @asynccontextmanager
    async def system(self, *, causation: Received | None = None) -> AsyncIterator[AsyncSession]:
        """Yield a transaction of a timer or consumer, which sees every tenant's rows."""
        origin = system_origin(
            correlation_id=causation.correlation_id if causation else None,
            causation_id=causation.id if causation else None,
        )
        async with self.begin(origin, EVERYTHING) as session:
            yield session

    @staticmethod
    def caused_by(session: AsyncSession, event: Event) -> None:
        """Attribute what is recorded from here on to an event's consequences."""
        log = change_log(session)
        log.origin = replace(
            log.origin, correlation_id=event.data.correlation_id, causation_id=event.id
        )
