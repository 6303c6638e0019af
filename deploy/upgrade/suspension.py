"""What waits until the rows are in: indexes and keys, which cost a fraction when built at once.

Only in tables that hold nothing yet, so nobody relies on them meanwhile; checks stay. Row-level
security waits for the schema's owner, who loads the rows: PostgreSQL refuses COPY to whom it holds.
It stays in force for the service's own role. What is taken away is written down in the same
transaction, in the words that make it again. A restart, and a rollback, find the list and go on
with it.
"""

from collections.abc import Sequence
from typing import Any

from deploy.upgrade.plan import HOMES
from deploy.upgrade.targets import Connections, seeing_everything

_TABLE = """
    CREATE TABLE IF NOT EXISTS upgrade_suspended (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL,
        table_name text NOT NULL,
        restore text NOT NULL
    )
"""
_FILLED = {
    "identity": ("users",),
    "vouchers": (
        "client_copies",
        *(table for table, service in HOMES.items() if service == "vouchers"),
    ),
}
KEY, FOREIGN_KEY, OWNER_POLICY = "key", "foreign key", "owner policy"
"""What is restored: first keys and indexes, then the foreign keys that lean on them, then the
policies for the owner, who checks the foreign keys faster without them."""

_KEYS = """
    SELECT oid, conrelid::regclass::text AS table_name, conname AS name, conindid,
           pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE conrelid = ANY($1::regclass[]) AND contype IN ('p', 'u')
    ORDER BY contype, conname
"""
# Those of the tables, and those of others that lean on a key that is dropped.
_FOREIGN_KEYS = """
    SELECT conrelid::regclass::text AS table_name, conname AS name,
           pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE contype = 'f'
    AND (conrelid = ANY($1::regclass[]) OR conindid = ANY($2::oid[])) ORDER BY conname
"""
_FOREIGN_KEYS_BETWEEN = """
    SELECT EXISTS (
        SELECT 1 FROM pg_constraint WHERE contype = 'f' AND conrelid <> confrelid
        AND conrelid = ANY($1::regclass[]) AND confrelid = ANY($1::regclass[])
    )
"""
_INDEXES = """
    SELECT indrelid::regclass::text AS table_name, indexrelid::regclass::text AS name,
           pg_get_indexdef(indexrelid) AS definition
    FROM pg_index WHERE indrelid = ANY($1::regclass[])
    AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid
                    AND contype IN ('p', 'u', 'x'))
    ORDER BY 2
"""
_HOLDING_THEIR_OWNER = """
    SELECT oid::regclass::text FROM pg_class
    WHERE oid = ANY($1::regclass[]) AND relforcerowsecurity ORDER BY 1
"""
_NOTE = "INSERT INTO upgrade_suspended (kind, table_name, restore) VALUES ($1, $2, $3)"
_NEXT = """
    SELECT position, restore FROM upgrade_suspended
    WHERE kind = $1 AND ($2::text IS NULL OR table_name = $2) ORDER BY position LIMIT 1
"""
_RESTORED = "DELETE FROM upgrade_suspended WHERE position = $1"


async def suspend(owners: Connections) -> None:
    """Take away what waits, and write down how to restore it.

    Done once: what an earlier run has taken away is not taken again after its restoring began.
    """
    for service, tables in _FILLED.items():
        owner = owners[service]
        if await _has_list(owner):
            continue
        async with seeing_everything(owner):
            await owner.execute(_TABLE)
            await _drop_keys(owner, [table for table in tables if await _is_empty(owner, table)])
            await _let_owner_in(owner, tables)


async def independent(owners: Connections) -> bool:
    """Say whether the tables may be filled in any order: no foreign key is left between them."""
    return not any(
        [
            await owners[service].fetchval(_FOREIGN_KEYS_BETWEEN, tables)
            for service, tables in _FILLED.items()
        ]
    )


async def _has_list(owner: Any) -> bool:
    return bool(await owner.fetchval("SELECT to_regclass('upgrade_suspended') IS NOT NULL"))


async def _is_empty(owner: Any, table: str) -> bool:
    return not await owner.fetchval(f"SELECT EXISTS (SELECT 1 FROM {table})")  # noqa: S608


async def _drop_keys(owner: Any, tables: list[str]) -> None:
    keys = await owner.fetch(_KEYS, tables)
    foreign = await owner.fetch(_FOREIGN_KEYS, tables, [key["conindid"] for key in keys])
    indexes = await owner.fetch(_INDEXES, tables)
    for index in indexes:
        await owner.execute(_NOTE, KEY, index["table_name"], index["definition"])
    for kind, constraints in ((KEY, keys), (FOREIGN_KEY, foreign)):
        for key in constraints:
            restore = f"ALTER TABLE {key['table_name']} ADD CONSTRAINT {_quoted(key['name'])}"
            await owner.execute(_NOTE, kind, key["table_name"], f"{restore} {key['definition']}")
    for key in (*foreign, *keys):
        await owner.execute(
            f"ALTER TABLE {key['table_name']} DROP CONSTRAINT {_quoted(key['name'])}"
        )
    for index in indexes:
        await owner.execute(f"DROP INDEX {index['name']}")


async def _let_owner_in(owner: Any, tables: Sequence[str]) -> None:
    for [table] in await owner.fetch(_HOLDING_THEIR_OWNER, tables):
        restore = f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"
        await owner.execute(_NOTE, OWNER_POLICY, table, restore)
        await owner.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def restore(owner: Any, kind: str, table: str | None = None) -> None:
    """Make again what was taken away of a kind, in a whole schema or of one table.

    Each in a transaction of its own. Keys are checked against every row as they are made, so
    nothing stays that they forbid.
    """
    if not await _has_list(owner):
        return
    while (row := await owner.fetchrow(_NEXT, kind, table)) is not None:
        async with seeing_everything(owner):
            await owner.execute("SET LOCAL maintenance_work_mem = '256MB'")
            await owner.execute(row["restore"])
            await owner.execute(_RESTORED, row["position"])


async def restore_keys(owners: Connections) -> None:
    """Make every key and index again, but no foreign key."""
    for service in _FILLED:
        await restore(owners[service], KEY)


async def restore_rest(owners: Connections) -> None:
    """Make everything else again, once the keys are there."""
    for service in _FILLED:
        for kind in (FOREIGN_KEY, OWNER_POLICY):
            await restore(owners[service], kind)


async def forget(owners: Connections) -> None:
    """Remove the lists, which are empty."""
    for service in _FILLED:
        await owners[service].execute("DROP TABLE IF EXISTS upgrade_suspended")
