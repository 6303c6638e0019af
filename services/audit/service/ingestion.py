"""Ingestion: events become audit rows, a batch in one transaction and a few statements."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit import queries
from services.audit.evidence import chain
from services.audit.evidence.chain import Head
from services.audit.evidence.drafts import Draft

# Months that do not exist yet are made first.
_NEXT_IDS = text(
    "WITH months AS (SELECT count(ensure_partition(month)) AS number"
    " FROM unnest(CAST(:months AS timestamptz[])) AS month)"
    " SELECT nextval(pg_get_serial_sequence('audit_logs', 'id'))"
    " FROM months, generate_series(1, :count)"
)
_NEW_HEADS = text(
    "INSERT INTO chain_heads (organization_id, position, hash)"
    " SELECT unnest(CAST(:chains AS bigint[])), 0, :genesis ON CONFLICT DO NOTHING"
)
_MOVE_HEADS = (
    "UPDATE chain_heads SET position = moved.position, hash = moved.hash FROM"
    " unnest(CAST(:chains AS bigint[]), CAST(:positions AS bigint[]), CAST(:hashes AS bytea[]))"
    " AS moved (organization_id, position, hash)"
    " WHERE chain_heads.organization_id = moved.organization_id"
)
_ADD_ERASURES = text(
    "INSERT INTO erasures (user_id, event_id, erased_at)"
    " SELECT *, now() FROM unnest(CAST(:users AS bigint[]), CAST(:events AS text[]))"
    " ON CONFLICT DO NOTHING"
)
# Values of the user, and values of events that name no user but hold an e-mail address of that user
# (a failed sign-in, for instance).
_ERASE = text(
    """
    WITH addresses AS (
        SELECT subject_id, value FROM personal_values
        WHERE subject_id = ANY(CAST(:users AS bigint[])) AND field = 'email'
    ), matching_events AS (
        SELECT p.event_id, a.subject_id FROM personal_values p JOIN addresses a USING (value)
        WHERE p.subject_id IS NULL AND p.field = 'email'
    ), without_user AS (
        SELECT p.commitment, min(t.subject_id) AS subject_id
        FROM personal_values p JOIN matching_events t USING (event_id)
        WHERE p.subject_id IS NULL GROUP BY p.commitment
    ), erased AS (
        SELECT commitment, subject_id FROM personal_values
        WHERE subject_id = ANY(CAST(:users AS bigint[]))
        UNION ALL SELECT commitment, subject_id FROM without_user
    )
    UPDATE personal_values p SET salt = NULL, value = NULL, erased_for = erased.subject_id
    FROM erased WHERE p.commitment = erased.commitment
    """
)


_DRAFTED_COLUMNS = {
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
}
_PLACE_COLUMNS = {
    "id": "bigint",
    "position": "bigint",
    "previous_hash": "bytea",
    "hash": "bytea",
}
_ROW_COLUMNS = _DRAFTED_COLUMNS | _PLACE_COLUMNS
_PERSONAL_COLUMNS = {
    "commitment": "bytea",
    "organization_id": "bigint",
    "event_id": "text",
    "subject_id": "bigint",
    "field": "text",
    "salt": "bytea",
    "value": "text",
}
_AS_TEXT = {"jsonb": "text"}


def _rows_source(prefix: str, columns: Mapping[str, str]) -> str:
    """Return SQL that makes rows of one array for each column; the prefix is the source's name."""
    arrays = ", ".join(
        f"CAST(:{prefix}_{name} AS {_AS_TEXT.get(kind, kind)}[])" for name, kind in columns.items()
    )
    return f"unnest({arrays}) AS {prefix} ({', '.join(columns)})"


# Values that arrive after their user was erased are not stored.
_ADD_PERSONAL = (
    "INSERT INTO personal_values"  # noqa: S608 - names of this module's own
    " (commitment, organization_id, event_id, subject_id, field, salt, value, erased_for)"
    " SELECT commitment, organization_id, personal.event_id, subject_id, field,"
    " CASE WHEN user_id IS NULL THEN salt END, CASE WHEN user_id IS NULL THEN value END, user_id"
    f" FROM {_rows_source('personal', _PERSONAL_COLUMNS)}"
    " LEFT JOIN erasures ON user_id = subject_id"
)
_ADD_ROWS = (
    f"INSERT INTO audit_logs ({', '.join(_ROW_COLUMNS)})"  # noqa: S608 - the same
    f" SELECT {', '.join(f'logged.{name}::{kind}' for name, kind in _ROW_COLUMNS.items())}"
    f" FROM {_rows_source('logged', _ROW_COLUMNS)}"
)
# One round trip to the database instead of three: a small batch takes little other time.
_WRITE = text(f"WITH moved AS ({_MOVE_HEADS}), personal_added AS ({_ADD_PERSONAL}) {_ADD_ROWS}")


async def store(session: AsyncSession, drafts: Sequence[Draft]) -> None:
    """Append rows to the audit trail, each to its organization's chain, in the given order."""
    months = {(draft.time.year, draft.time.month) for draft in drafts}
    instants = [datetime(year, month, 1, tzinfo=UTC) for year, month in sorted(months)]
    ids = await session.scalars(_NEXT_IDS, {"months": instants, "count": len(drafts)})
    heads = await _lock_or_make_heads(session, sorted({draft.chain for draft in drafts}))
    places = [
        chain.append(heads[draft.chain], draft.text, id_)
        for draft, id_ in zip(drafts, ids, strict=True)
    ]
    personal = [value for draft in drafts for value in draft.personal]
    new_heads = {
        "chains": list(heads),
        "positions": [head.position for head in heads.values()],
        "hashes": [head.hash for head in heads.values()],
    }
    await session.execute(
        _WRITE,
        new_heads
        | _arrays("personal", personal, _PERSONAL_COLUMNS)
        | _arrays("logged", [draft.columns for draft in drafts], _DRAFTED_COLUMNS)
        | _arrays("logged", places, _PLACE_COLUMNS),
    )
    await _erase(session, drafts)


async def _lock_or_make_heads(session: AsyncSession, chains: list[int]) -> dict[int, Head]:
    heads = await queries.lock_heads(session, chains)
    if len(heads) < len(chains):
        await session.execute(_NEW_HEADS, {"chains": chains, "genesis": chain.GENESIS})
        heads = await queries.lock_heads(session, chains)
    return heads


async def _erase(session: AsyncSession, drafts: Iterable[Draft]) -> None:
    """Erase the personal data of the users whose deletion is among the events."""
    events = {
        draft.columns["entity_id"]: draft.id
        for draft in drafts
        if (draft.columns["entity_type"], draft.columns["action"]) == ("user", "DELETE")
        and draft.columns["entity_id"] is not None
    }
    if events:
        users = {"users": list(events)}
        await session.execute(_ADD_ERASURES, {**users, "events": list(events.values())})
        await session.execute(_ERASE, users)


def _arrays(
    prefix: str, rows: Sequence[Mapping[str, Any]], columns: Iterable[str]
) -> dict[str, list[Any]]:
    """Return the parameters of `_rows_source`: one array for each column."""
    return {f"{prefix}_{name}": [row[name] for row in rows] for name in columns}
