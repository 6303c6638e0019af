"""Retention: months past their retention become files.

It runs as the schema's owner, like a migration: the service's own role cannot remove rows. A month
is removed in one transaction: its file is written and read back, the pieces of the chains that it
held are stored with their hashes, the event of the archive is added to the outbox, and the
partition is dropped.
"""

from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit import queries
from services.audit.events import QUEUE_NAME, Archived
from services.audit.evidence.archives import pieces_digest, write_archive
from services.audit.models import Archive, ArchivedRange
from shared.changes import record_fact
from shared.transactions import Transactions

_PREFIX = "audit_logs_"
_LOCK_RUN = text("SELECT pg_advisory_lock(hashtextextended('audit.retention', 0))")
_UNLOCK_RUN = text("SELECT pg_advisory_unlock(hashtextextended('audit.retention', 0))")
_SHORT_LOCK_WAITS = text("SET LOCAL lock_timeout = '10s'")


def months_due(partitions: Iterable[str], moment: datetime, months: int) -> list[str]:
    """Return the partitions whose month ended at least so many months ago, oldest first."""
    due = []
    for name in (partition.rpartition(".")[2].strip('"') for partition in partitions):
        month = _month_of(name)
        if (moment.year - month.year) * 12 + moment.month - month.month > months:
            due.append(name)
    return sorted(due)


def _month_of(partition: str) -> date:
    return date.fromisoformat(partition.removeprefix(_PREFIX).replace("_", "-") + "-01")


async def archive_months(
    transactions: Transactions, folder: Path, moment: datetime, months: int
) -> list[Path]:
    """Archive every month that ended at least `months` months ago; return the files.

    Of two runs at once the second waits for the first, and then archives what is still due.
    Raises RowAltered for a month with a row that was tampered with: it is not archived.
    """
    async with transactions.engine.connect() as connection:
        # The lock belongs to this connection, which has no transaction open meanwhile.
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(_LOCK_RUN)
        try:
            async with transactions.system() as session:
                partitions = await queries.list_partitions(session)
            due = months_due(partitions, moment, months)
            paths = [await _archive_month(transactions, name, folder) for name in due]
        finally:
            await connection.execute(_UNLOCK_RUN)
    return [path for path in paths if path is not None]


async def _archive_month(transactions: Transactions, partition: str, folder: Path) -> Path | None:
    """Archive a month and drop it; return its file, or None if it has no rows."""
    async with transactions.system() as session:
        await session.execute(_SHORT_LOCK_WAITS)
        # A late event of this month waits, and finds a new partition.
        await session.execute(text(f"LOCK TABLE {partition} IN SHARE ROW EXCLUSIVE MODE"))
        if not await queries.has_rows(session, partition):
            await _drop(session, partition)
            return None
        month = _month_of(partition)
        number = await queries.count_archives(session, month) + 1
        path = folder / f"{partition}-{number}.ndjson.gz"
        rows, digest = await write_archive(path, queries.stream_partition(session, partition))
        archive = Archive(month=month, file=path.name, sha256=digest, rows=rows)
        await _record_archive(session, archive, partition)
        await _drop(session, partition)
    return path


async def _record_archive(session: AsyncSession, archive: Archive, partition: str) -> None:
    """Store an archive and the pieces of chains that it holds, and record its event."""
    session.add(archive)
    await session.flush()
    pieces = await queries.pieces_of_partition(session, partition)
    session.add_all(ArchivedRange(**piece, archive_id=archive.id) for piece in pieces)
    await session.flush()
    details: Archived = {
        "month": archive.month.isoformat(),
        "file": archive.file,
        "sha256": archive.sha256.hex(),
        "rows": archive.rows,
        "pieces_sha256": pieces_digest(pieces),
    }
    record_fact(session, "ARCHIVE", "audit_log", entity_id=archive.id, details={**details})


async def _drop(session: AsyncSession, partition: str) -> None:
    """Drop a month, and with it the personal data and the inbox rows of its events."""
    # The partition's name is made of this module's own prefix and digits.
    events = f"(SELECT event_id FROM {partition})"  # noqa: S608
    await session.execute(text(f"DELETE FROM personal_values WHERE event_id IN {events}"))  # noqa: S608
    await session.execute(
        text(f"DELETE FROM inbox WHERE queue = :queue AND event_id IN {events}"),  # noqa: S608
        {"queue": QUEUE_NAME},
    )
    await session.execute(text(f"ALTER TABLE audit_logs DETACH PARTITION {partition}"))
    await session.execute(text(f"DROP TABLE {partition}"))
