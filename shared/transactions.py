"""The unit of work: one transaction with its tenant, its origin and its recorded changes.

Only this module commits. A request or a message has one transaction, which is committed before the
response is sent or the message is acknowledged. A use case that calls another system opens several
transactions, so that none is open during the call.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from shared.changes import AuditedSession, Catalogue, ChangeLog, attach, change_log, seal
from shared.context import Origin, system_origin
from shared.events import ConsumedEvent, Event
from shared.failpoints import failpoint
from shared.mail.encryption import MailEncryption
from shared.mail.queue import ENCRYPTION
from shared.tenancy import EVERYTHING, Tenant, limit_to


class Transactions:
    """Opens the transactions of one service; with `mail`, they may queue messages."""

    def __init__(
        self,
        engine: AsyncEngine,
        source: str,
        catalogue: Catalogue,
        *,
        mail: MailEncryption | None = None,
    ) -> None:
        self.engine = engine
        self.source = source
        self.catalogue = catalogue
        self._sessions = async_sessionmaker(
            engine,
            sync_session_class=AuditedSession,
            expire_on_commit=False,
            info={} if mail is None else {ENCRYPTION: mail},
        )

    @asynccontextmanager
    async def begin(self, origin: Origin, tenant: Tenant) -> AsyncIterator[AsyncSession]:
        """Yield a session in a transaction that commits at the end, or rolls back on an error.

        Raises UnrecordedChange when an audited row changed and the change was not recorded.
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
    async def system(
        self, *, causation: ConsumedEvent | None = None
    ) -> AsyncIterator[AsyncSession]:
        """Yield a session of a timer or consumer, which sees the rows of every tenant."""
        origin = system_origin(
            correlation_id=causation.correlation_id if causation else None,
            causation_id=causation.id if causation else None,
        )
        async with self.begin(origin, EVERYTHING) as session:
            yield session

    @staticmethod
    def caused_by(session: AsyncSession, event: Event) -> None:
        """Set the event as the cause of what is recorded from now on."""
        log = change_log(session)
        log.origin = replace(
            log.origin, correlation_id=event.data.correlation_id, causation_id=event.id
        )
