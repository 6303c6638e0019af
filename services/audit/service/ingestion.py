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
from services.audit.evidence.personal import USER_ENTITIES
from shared import inbox
from shared.connections import fetch
from shared.db import now
from shared.failpoints import failpoint

# The inbox first: two batches with the same events wait for each other there. Heads are locked in
# one order, and months that do not exist yet are made.
_TAKE = (
    f"WITH taken AS ({inbox.TAKE}),"  # noqa: S608 - statements of our own
    " months AS (SELECT count(ensure_partition(month)) AS number"
    " FROM unnest($4::timestamptz[]) AS month),"
    f" heads AS ({queries.LOCK_HEADS.format(chains='$5')})"
    " SELECT ARRAY(SELECT event_id FROM taken) AS events,"
    " ARRAY(SELECT nextval(pg_get_serial_sequence('audit_logs', 'id')) FROM months, taken) AS ids,"
    " ARRAY(SELECT organization_id FROM heads) AS chains,"
    " ARRAY(SELECT position FROM heads) AS positions, ARRAY(SELECT hash FROM heads) AS hashes"
)
_NEW_HEADS = (
    "INSERT INTO chain_heads (organization_id, position, hash)"
    " SELECT unnest($1::bigint[]), 0, $2::bytea ON CONFLICT DO NOTHING"
)
_MOVE_HEADS = (
    "UPDATE chain_heads SET position = moved.position, hash = moved.hash FROM"
    " unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS moved (organization_id, position, hash)"
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


def _rows_source(name: str, columns: Mapping[str, str], first: int) -> str:
    """Return SQL that makes rows of one array for each column, parameters from `first` on."""
    arrays = ", ".join(
        f"${number}::{_AS_TEXT.get(kind, kind)}[]"
        for number, kind in enumerate(columns.values(), first)
    )
    return f"unnest({arrays}) AS {name} ({', '.join(columns)})"


_FIRST_PERSONAL = 4
_FIRST_ROW = _FIRST_PERSONAL + len(_PERSONAL_COLUMNS)
# Values that arrive after their user was erased are not stored.
_ADD_PERSONAL = (
    "INSERT INTO personal_values"  # noqa: S608 - names of this module's own
    " (commitment, organization_id, event_id, subject_id, field, salt, value, erased_for)"
    " SELECT commitment, organization_id, personal.event_id, subject_id, field,"
    " CASE WHEN user_id IS NULL THEN salt END, CASE WHEN user_id IS NULL THEN value END, user_id"
    f" FROM {_rows_source('personal', _PERSONAL_COLUMNS, _FIRST_PERSONAL)}"
    " LEFT JOIN erasures ON user_id = subject_id"
)
_ADD_ROWS = (
    f"INSERT INTO audit_logs ({', '.join(_ROW_COLUMNS)})"  # noqa: S608 - the same
    f" SELECT {', '.join(f'logged.{name}::{kind}' for name, kind in _ROW_COLUMNS.items())}"
    f" FROM {_rows_source('logged', _ROW_COLUMNS, _FIRST_ROW)}"
)
# One round trip to the database instead of three: a small batch takes little other time.
_WRITE = f"WITH moved AS ({_MOVE_HEADS}), personal_added AS ({_ADD_PERSONAL}) {_ADD_ROWS}"


async def append(session: AsyncSession, queue: str, drafts: Sequence[Draft]) -> Sequence[Draft]:
    """Append the drafts whose events are new to the audit trail, and return them.

    Each becomes a row in its organization's chain, in the given order, and a row in the inbox of
    the queue. Two statements do all of it, unless an organization is new or a user is deleted.
    """
    distinct = {draft.id: draft for draft in drafts}
    months = {(draft.time.year, draft.time.month) for draft in drafts}
    instants = [datetime(year, month, 1, tzinfo=UTC) for year, month in sorted(months)]
    chains = sorted({draft.chain for draft in drafts})
    [row] = await fetch(session, _TAKE, list(distinct), queue, now(), instants, chains)
    failpoint("ingestion.taken")
    new_ids = frozenset(row["events"])
    new = [draft for id_, draft in distinct.items() if id_ in new_ids]
    if new:
        locked = zip(row["chains"], row["positions"], row["hashes"], strict=True)
        heads = {id_: Head(position, hash_) for id_, position, hash_ in locked}
        await _write(session, new, row["ids"], await _with_new_heads(session, heads, chains))
        await _erase(session, new)
    return new


async def _with_new_heads(
    session: AsyncSession, heads: dict[int, Head], chains: list[int]
) -> dict[int, Head]:
    """Return the heads of all chains, locked; those of new organizations are made."""
    if len(heads) < len(chains):
        await fetch(session, _NEW_HEADS, chains, chain.GENESIS)
        return await queries.lock_heads(session, chains)
    return heads


async def _write(
    session: AsyncSession, drafts: Sequence[Draft], ids: Sequence[int], heads: dict[int, Head]
) -> None:
    places = [
        chain.append(heads[draft.chain], draft.text, id_)
        for draft, id_ in zip(drafts, ids, strict=True)
    ]
    moved = {draft.chain: heads[draft.chain] for draft in drafts}
    personal = [value for draft in drafts for value in draft.personal]
    await fetch(
        session,
        _WRITE,
        list(moved),
        [head.position for head in moved.values()],
        [head.hash for head in moved.values()],
        *_arrays(personal, _PERSONAL_COLUMNS),
        *_arrays([draft.columns for draft in drafts], _DRAFTED_COLUMNS),
        *_arrays(places, _PLACE_COLUMNS),
    )


async def _erase(session: AsyncSession, drafts: Iterable[Draft]) -> None:
    """Erase the personal data of the users and dependants whose deletion is among the events."""
    events = {
        draft.columns["entity_id"]: draft.id
        for draft in drafts
        if draft.columns["entity_type"] in USER_ENTITIES
        and draft.columns["action"] == "DELETE"
        and draft.columns["entity_id"] is not None
    }
    if events:
        users = {"users": list(events)}
        await session.execute(_ADD_ERASURES, {**users, "events": list(events.values())})
        await session.execute(_ERASE, users)


def _arrays(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> list[list[Any]]:
    """Return the parameters of `_rows_source`: one array for each column."""
    return [[row[name] for row in rows] for name in columns]
