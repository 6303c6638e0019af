"""Events become audit rows: a batch is one transaction and a handful of statements."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit import chain
from services.audit.canonical import storable
from services.audit.chain import Head, chain_of
from services.audit.personal import Commitments
from shared.events import Event

_NEXT_IDS = text(
    "SELECT nextval(pg_get_serial_sequence('audit_logs', 'id')) FROM generate_series(1, :count)"
)
_ENSURE_PARTITION = text("SELECT ensure_partition(:instant)")
_NEW_HEADS = text(
    "INSERT INTO chain_heads (organization_id, position, hash)"
    " SELECT unnest(CAST(:chains AS bigint[])), 0, :genesis ON CONFLICT DO NOTHING"
)
# Always in the same order: two batches that met each other's organizations would deadlock.
_LOCK_HEADS = text(
    "SELECT organization_id, position, hash FROM chain_heads"
    " WHERE organization_id = ANY(CAST(:chains AS bigint[])) ORDER BY organization_id FOR UPDATE"
)
_MOVE_HEADS = text(
    "UPDATE chain_heads SET position = moved.position, hash = moved.hash FROM"
    " unnest(CAST(:chains AS bigint[]), CAST(:positions AS bigint[]), CAST(:hashes AS bytea[]))"
    " AS moved (organization_id, position, hash)"
    " WHERE chain_heads.organization_id = moved.organization_id"
)
_ERASE_LATE = text(
    "UPDATE personal_values SET salt = NULL, value = NULL, erased_for = subject_id"
    " WHERE commitment = ANY(CAST(:commitments AS bytea[]))"
    " AND subject_id IN (SELECT user_id FROM erasures)"
)
_NOTE_ERASURES = text(
    "INSERT INTO erasures (user_id, event_id, erased_at)"
    " SELECT *, now() FROM unnest(CAST(:users AS bigint[]), CAST(:events AS text[]))"
    " ON CONFLICT DO NOTHING"
)
# Values of the user itself, and those of events that could not say whom they tell of but hold an
# e-mail address of that user (a failed sign-in, for instance).
_ERASE = text(
    """
    WITH addresses AS (
        SELECT subject_id, value FROM personal_values
        WHERE subject_id = ANY(CAST(:users AS bigint[])) AND field = 'email'
    ), telling AS (
        SELECT p.event_id, a.subject_id FROM personal_values p JOIN addresses a USING (value)
        WHERE p.subject_id IS NULL AND p.field = 'email'
    ), of_nobody AS (
        SELECT p.commitment, min(t.subject_id) AS subject_id
        FROM personal_values p JOIN telling t USING (event_id)
        WHERE p.subject_id IS NULL GROUP BY p.commitment
    ), erased AS (
        SELECT commitment, subject_id FROM personal_values
        WHERE subject_id = ANY(CAST(:users AS bigint[]))
        UNION ALL SELECT commitment, subject_id FROM of_nobody
    )
    UPDATE personal_values p SET salt = NULL, value = NULL, erased_for = erased.subject_id
    FROM erased WHERE p.commitment = erased.commitment
    """
)


def _insert(table: str, columns: Mapping[str, str]) -> Any:
    """Return an insert of many rows that come as one array per column."""
    arrays = ", ".join(
        f"CAST(:{name} AS {'text' if kind == 'jsonb' else kind}[])"
        for name, kind in columns.items()
    )
    chosen = ", ".join(
        f"rows.{name}::jsonb" if kind == "jsonb" else f"rows.{name}"
        for name, kind in columns.items()
    )
    names = ", ".join(columns)
    # Names of tables and columns are this module's own constants.
    return text(
        f"INSERT INTO {table} ({names}) SELECT {chosen}"  # noqa: S608
        f" FROM unnest({arrays}) AS rows ({names})"
    )


_ROW_COLUMNS = {
    "id": "bigint",
    "user_id": "bigint",
    "organization_id": "bigint",
    "action": "text",
    "entity_type": "text",
    "entity_id": "bigint",
    "old_values": "jsonb",
    "new_values": "jsonb",
    "ip_address": "text",
    "user_agent": "text",
    "created_at": "timestamptz",
    "event_id": "text",
    "correlation_id": "text",
    "service": "text",
    "envelope": "jsonb",
    "position": "bigint",
    "previous_hash": "bytea",
    "hash": "bytea",
}
_PERSONAL_COLUMNS = {
    "commitment": "bytea",
    "organization_id": "bigint",
    "event_id": "text",
    "subject_id": "bigint",
    "field": "text",
    "salt": "bytea",
    "value": "text",
}
_INSERT_ROWS = _insert("audit_logs", _ROW_COLUMNS)
_INSERT_PERSONAL = _insert("personal_values", _PERSONAL_COLUMNS)

_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# What has a column of its own is left out of the envelope.
_OF_EVENT = {"id", "time", "data"}
_OF_DATA = {
    "action",
    "entity_type",
    "entity_id",
    "organization_id",
    "correlation_id",
    "old_values",
    "new_values",
    "actor",
}
_OF_ACTOR = {"user_id", "ip_address", "user_agent"}


def _envelope(event: Event) -> dict[str, Any]:
    """Return what of an event has no column, fields that we do not know included."""
    data = _without(event.data, _OF_DATA)
    return {
        **_without(event, _OF_EVENT),
        "data": {**data, "actor": _without(event.data.actor, _OF_ACTOR)},
    }


def _without(model: BaseModel, names: set[str]) -> dict[str, Any]:
    # As they came from JSON: dumping would copy every value.
    fields = {**vars(model), **(model.model_extra or {})}
    return {name: value for name, value in fields.items() if name not in names}


def row_of(event: Event) -> dict[str, Any]:
    """Return an event as the columns of an audit row, all but its place in the chain."""
    data, actor = event.data, event.data.actor
    row = {
        "user_id": actor.user_id,
        "organization_id": data.organization_id,
        "action": data.action,
        "entity_type": data.entity_type,
        "entity_id": data.entity_id,
        "old_values": data.old_values,
        "new_values": data.new_values,
        "ip_address": actor.ip_address,
        "user_agent": actor.user_agent,
        "event_id": event.id,
        "correlation_id": data.correlation_id,
        "service": service_of(event.source),
        "envelope": _envelope(event),
    }
    stored: dict[str, Any] = storable(row)
    return {**stored, "created_at": _in_utc(event.time)}


def service_of(source: str) -> str:
    """Return the service that a source such as `carnet/vouchers` names."""
    return source.rpartition("/")[2]


def _in_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


async def store(session: AsyncSession, events: Sequence[Event]) -> None:
    """Append events to the audit trail, each to its organization's chain, in the given order."""
    rows = [row_of(event) for event in events]
    await _ensure_partitions(session, rows)
    ids = await session.scalars(_NEXT_IDS, {"count": len(rows)})
    for row, id_ in zip(rows, ids, strict=True):
        row["id"] = id_
    commitments = Commitments()
    for row in rows:
        commitments.withhold(row)
    await _link(session, rows)
    await session.execute(_INSERT_ROWS, _arrays(rows, _ROW_COLUMNS))
    await _store_personal(session, commitments.rows)
    await _erase(session, events)


async def ensure_partition(session: AsyncSession, instant: datetime) -> None:
    """Make the month of an instant, if it does not exist."""
    await session.execute(_ENSURE_PARTITION, {"instant": instant})


async def _ensure_partitions(session: AsyncSession, rows: Iterable[Mapping[str, Any]]) -> None:
    months = {(row["created_at"].year, row["created_at"].month) for row in rows}
    for year, month in sorted(months):
        await ensure_partition(session, datetime(year, month, 1, tzinfo=UTC))


async def _link(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Give the rows their places; each chain's head is locked once for the whole batch."""
    chains = sorted({chain_of(row["organization_id"]) for row in rows})
    heads = await _locked_heads(session, chains)
    for row in rows:
        chain.append(heads[chain_of(row["organization_id"])], row)
    moved = {
        "chains": chains,
        "positions": [heads[id_].position for id_ in chains],
        "hashes": [heads[id_].hash for id_ in chains],
    }
    await session.execute(_MOVE_HEADS, moved)


async def _locked_heads(session: AsyncSession, chains: list[int]) -> dict[int, Head]:
    found = (await session.execute(_LOCK_HEADS, {"chains": chains})).all()
    if len(found) < len(chains):
        await session.execute(_NEW_HEADS, {"chains": chains, "genesis": chain.GENESIS})
        found = (await session.execute(_LOCK_HEADS, {"chains": chains})).all()
    return {row.organization_id: Head(row.position, row.hash) for row in found}


async def _store_personal(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await session.execute(_INSERT_PERSONAL, _arrays(rows, _PERSONAL_COLUMNS))
        # An event that comes after its user was erased brings nothing back.
        await session.execute(_ERASE_LATE, {"commitments": [row["commitment"] for row in rows]})


async def _erase(session: AsyncSession, events: Iterable[Event]) -> None:
    """Erase the personal data of the users whose deletion is among the events."""
    deleted = {
        event.data.entity_id: event.id
        for event in events
        if (event.data.entity_type, event.data.action) == ("user", "DELETE")
        and event.data.entity_id is not None
    }
    if deleted:
        users = {"users": list(deleted)}
        await session.execute(_NOTE_ERASURES, {**users, "events": list(deleted.values())})
        await session.execute(_ERASE, users)


def _arrays(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> dict[str, list[Any]]:
    return {
        name: [_write(row[name]) if kind == "jsonb" else row[name] for row in rows]
        for name, kind in columns.items()
    }
