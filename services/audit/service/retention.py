"""Retention: months past their retention become files.

Runs as the schema's owner, like a migration: the service itself can take nothing away. A month
leaves in one transaction: its file is written and read back, the pieces of the chains that it held
are noted with their hashes, the event that tells of it is in the outbox, and the partition is gone.
"""

import asyncio
import gzip
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import asyncpg
from uuid_utils import uuid7

from services.audit.events import CATALOGUE, QUEUE_NAME, Archived
from services.audit.evidence.canonical import canonical
from services.audit.evidence.chain import COVERED, hash_of, instant_text
from services.audit.settings import RetentionSettings
from shared.context import new_request_id
from shared.db import now
from shared.events import Event, EventActor, EventData
from shared.outbox import NOTIFY_CHANNEL
from shared.outbox_relay import plain_dsn

_PREFIX = "audit_logs_"
_CHUNK = 1000
_PARTITIONS = (
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
    " WHERE inhparent = 'audit_logs'::regclass ORDER BY 1"
)
_PIECES = """
    SELECT coalesce(organization_id, 0) AS organization_id,
        min(position) AS first_position, max(position) AS last_position,
        (array_agg(previous_hash ORDER BY position))[1] AS previous_hash,
        (array_agg(hash ORDER BY position DESC))[1] AS last_hash
    FROM (
        SELECT *, position - row_number() OVER (PARTITION BY organization_id ORDER BY position)
            AS island FROM {partition}
    ) AS rows
    GROUP BY organization_id, island ORDER BY 1, 2
"""


class RowAltered(RuntimeError):
    """A row is not as it was written: it stays where it is, as evidence."""


_ONE_RUN = "SELECT pg_advisory_lock(hashtextextended('audit.retention', 0))"
"""Held until the connection is closed."""


def months_due(partitions: Iterable[str], moment: datetime, months: int) -> list[str]:
    """Return the partitions whose month ended at least so many months ago, oldest first."""
    this_month = moment.year * 12 + moment.month - 1
    names = (name.rpartition(".")[2].strip('"') for name in partitions)
    return sorted(name for name in names if this_month - _number(name) > months)


def _number(partition: str) -> int:
    year, month = partition.removeprefix(_PREFIX).split("_")
    return int(year) * 12 + int(month) - 1


async def archive_due(settings: RetentionSettings, moment: datetime) -> list[Path]:
    """Archive every month that is due; return the files.

    Raises RowAltered for a month with a row that was tampered with: it is not archived.
    """
    connection = await asyncpg.connect(plain_dsn(settings.owner_database_url))
    try:
        # Of two runs at once the second waits for the first, and then finds what is still due.
        await connection.execute(_ONE_RUN)
        await connection.execute("SET carnet.scope = 'all'; SET lock_timeout = '10s'")
        found = [row["name"] for row in await connection.fetch(_PARTITIONS)]
        due = months_due(found, moment, settings.retention_months)
        left = [await _archive(connection, name, settings.archive) for name in due]
        return [path for path in left if path is not None]
    finally:
        await connection.close()


async def _archive(connection: asyncpg.Connection, partition: str, folder: Path) -> Path | None:
    """Take a month away; return its file, or None when nothing happened in it."""
    async with connection.transaction():
        # A late event of this month waits, and finds a new partition.
        await connection.execute(f"LOCK TABLE {partition} IN SHARE MODE")
        if not await connection.fetchval(f"SELECT EXISTS (SELECT FROM {partition})"):  # noqa: S608
            await _take_away(connection, partition)
            return None
        month = date.fromisoformat(partition.removeprefix(_PREFIX).replace("_", "-") + "-01")
        number = await connection.fetchval(
            "SELECT count(*) + 1 FROM archives WHERE month = $1", month
        )
        path = folder / f"{partition}-{number}.ndjson.gz"
        count = await _write(connection, partition, path)
        digest = await asyncio.to_thread(_checked_digest, path, count)
        pieces = await connection.fetch(_PIECES.format(partition=partition))
        await _note(connection, month, path.name, digest, count, pieces)
        await _take_away(connection, partition)
    return path


async def _write(connection: asyncpg.Connection, partition: str, path: Path) -> int:
    """Write a partition's rows as lines of JSON; return how many there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, count = path.with_suffix(".unfinished"), 0
    with gzip.open(unfinished, "wb") as file:
        async for rows in _chunks(connection, partition):
            await asyncio.to_thread(file.writelines, [_line(row) for row in rows])
            count += len(rows)
    await asyncio.to_thread(_keep, unfinished, path)
    return count


async def _chunks(
    connection: asyncpg.Connection, partition: str
) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    # A cursor of the driver's would stay open to the end, and keep the table from being dropped.
    await connection.execute(
        f"DECLARE leaving NO SCROLL CURSOR FOR SELECT * FROM {partition} ORDER BY id"  # noqa: S608
    )
    while rows := await connection.fetch(f"FETCH {_CHUNK} FROM leaving"):
        yield [_row(found) for found in rows]
    await connection.execute("CLOSE leaving")


def _row(found: Mapping[str, Any]) -> dict[str, Any]:
    row = dict(found)
    for name in ("old_values", "new_values", "envelope"):
        row[name] = json.loads(row[name])
    if hash_of(row) != row["hash"]:
        raise RowAltered(f"row {row['id']}, position {row['position']} of its chain")
    return row


def _line(row: Mapping[str, Any]) -> bytes:
    """Return a row as the archive keeps it: what its hash covers, and its hashes."""
    covered = {name: row[name] for name in COVERED}
    covered["created_at"] = instant_text(row["created_at"])
    hashes = {name: row[name].hex() for name in ("previous_hash", "hash")}
    return json.dumps({**covered, **hashes}, ensure_ascii=False).encode() + b"\n"


def _keep(unfinished: Path, path: Path) -> None:
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.rename(path)


def _checked_digest(path: Path, count: int) -> bytes:
    """Read an archive back; return its SHA-256."""
    with gzip.open(path, "rb") as file:
        read = sum(1 for _ in file)
    if read != count:
        raise OSError(f"{path} holds {read} rows of {count}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def pieces_digest(pieces: Iterable[Mapping[str, Any]]) -> str:
    """Return the hash of an archive's pieces, by which the trail itself vouches for them."""
    names = ("organization_id", "first_position", "last_position", "previous_hash", "last_hash")
    plain = [[_plain(piece[name]) for name in names] for piece in pieces]
    return hashlib.sha256(canonical(sorted(plain))).hexdigest()


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


async def _note(
    connection: asyncpg.Connection,
    month: date,
    file: str,
    digest: bytes,
    count: int,
    pieces: Sequence[Mapping[str, Any]],
) -> None:
    archive_id = await connection.fetchval(
        "INSERT INTO archives (month, file, sha256, rows, archived_at)"
        " VALUES ($1, $2, $3, $4, now()) RETURNING id",
        month,
        file,
        digest,
        count,
    )
    await connection.executemany(
        "INSERT INTO archived_ranges (organization_id, first_position, last_position,"
        " previous_hash, last_hash, archive_id) VALUES ($1, $2, $3, $4, $5, $6)",
        [(*piece.values(), archive_id) for piece in pieces],
    )
    told: Archived = {
        "month": month.isoformat(),
        "file": file,
        "sha256": digest.hex(),
        "rows": count,
        "pieces_sha256": pieces_digest(pieces),
    }
    await _tell(connection, archive_id, told)


async def _tell(connection: asyncpg.Connection, archive_id: int, told: Archived) -> None:
    event = Event(
        id=str(uuid7()),
        source="carnet/audit",
        type=CATALOGUE["audit_log", "ARCHIVE"],
        time=now(),
        subject=f"audit_log/{archive_id}",
        data=EventData(
            action="ARCHIVE",
            entity_type="audit_log",
            entity_id=archive_id,
            entity_version=0,
            organization_id=None,
            actor=EventActor(),
            correlation_id=new_request_id(),
            old_values={},
            new_values={**told},
        ),
    )
    await connection.execute(
        "INSERT INTO outbox (event_id, type, body, created_at) VALUES ($1, $2, $3, now())",
        event.id,
        event.type,
        event.model_dump_json(),
    )
    await connection.execute("SELECT pg_notify($1 || '_audit', '')", NOTIFY_CHANNEL)


async def _take_away(connection: asyncpg.Connection, partition: str) -> None:
    """Drop a month, and with it the personal data and the inbox rows of its events."""
    # The partition's name is made of this module's own prefix and digits.
    events = f"(SELECT event_id FROM {partition})"  # noqa: S608
    await connection.execute(f"DELETE FROM personal_values WHERE event_id IN {events}")  # noqa: S608
    await connection.execute(
        f"DELETE FROM inbox WHERE queue = $1 AND event_id IN {events}",  # noqa: S608
        QUEUE_NAME,
    )
    await connection.execute(f"ALTER TABLE audit_logs DETACH PARTITION {partition}")
    await connection.execute(f"DROP TABLE {partition}")
