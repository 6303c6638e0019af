"""Indexes and keys that wait until the rows are in: built at once they cost a fraction.

Only in tables that hold nothing yet, so nobody relies on them meanwhile. What is dropped is written
down in the same transaction, in the words that make it again; primary keys and checks stay. A
restart, and a rollback, find the list and go on with it.
"""

from typing import Any

from deploy.upgrade.plan import HOMES
from deploy.upgrade.targets import Connections, seeing_everything

_TABLE = """
    CREATE TABLE IF NOT EXISTS upgrade_suspended (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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

_UNIQUE_KEYS = """
    SELECT oid, conrelid::regclass::text AS table_name, conname AS name, conindid,
           pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE conrelid = ANY($1::regclass[]) AND contype = 'u' ORDER BY conname
"""
# Those of the tables, and those of others that lean on a key that is dropped.
_FOREIGN_KEYS = """
    SELECT conrelid::regclass::text AS table_name, conname AS name,
           pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE contype = 'f'
    AND (conrelid = ANY($1::regclass[]) OR conindid = ANY($2::oid[])) ORDER BY conname
"""
_INDEXES = """
    SELECT indrelid::regclass::text AS table_name, indexrelid::regclass::text AS name,
           pg_get_indexdef(indexrelid) AS definition
    FROM pg_index WHERE indrelid = ANY($1::regclass[])
    AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid
                    AND contype IN ('p', 'u', 'x'))
    ORDER BY 2
"""
_NOTE = "INSERT INTO upgrade_suspended (table_name, restore) VALUES ($1, $2)"
# Unique keys before the foreign keys that lean on them: the order in which they were written down.
_NEXT = """
    SELECT position, restore FROM upgrade_suspended
    WHERE table_name IS DISTINCT FROM $1 ORDER BY position LIMIT 1
"""


_RESTORED = "DELETE FROM upgrade_suspended WHERE position = $1"


async def suspend(owners: Connections) -> None:
    """Drop the indexes and keys of the tables that are empty, and write down how to restore them.

    Done once: what an earlier run has dropped is not dropped again after its restoring began.
    """
    for service, tables in _FILLED.items():
        owner = owners[service]
        if await owner.fetchval("SELECT to_regclass('upgrade_suspended') IS NOT NULL"):
            continue
        async with seeing_everything(owner):
            await owner.execute(_TABLE)
            empty = [table for table in tables if await _is_empty(owner, table)]
            await _drop(owner, empty)


async def _is_empty(owner: Any, table: str) -> bool:
    return not await owner.fetchval(f"SELECT EXISTS (SELECT 1 FROM {table})")  # noqa: S608


async def _drop(owner: Any, tables: list[str]) -> None:
    unique = await owner.fetch(_UNIQUE_KEYS, tables)
    foreign = await owner.fetch(_FOREIGN_KEYS, tables, [key["conindid"] for key in unique])
    indexes = await owner.fetch(_INDEXES, tables)
    for index in indexes:
        await owner.execute(_NOTE, index["table_name"], index["definition"])
    for key in (*unique, *foreign):
        restore = f"ALTER TABLE {key['table_name']} ADD CONSTRAINT {_quoted(key['name'])}"
        await owner.execute(_NOTE, key["table_name"], f"{restore} {key['definition']}")
    for key in (*foreign, *unique):
        await owner.execute(
            f"ALTER TABLE {key['table_name']} DROP CONSTRAINT {_quoted(key['name'])}"
        )
    for index in indexes:
        await owner.execute(f"DROP INDEX {index['name']}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def restore(owners: Connections, service: str, *, but: str | None = None) -> None:
    """Make again what was dropped in a schema, but for one table that is still to be filled.

    Each in a transaction of its own. Keys are checked against every row as they are made, so
    nothing stays that they forbid.
    """
    owner = owners[service]
    if not await owner.fetchval("SELECT to_regclass('upgrade_suspended') IS NOT NULL"):
        return
    while (row := await owner.fetchrow(_NEXT, but)) is not None:
        async with seeing_everything(owner):
            await owner.execute("SET LOCAL maintenance_work_mem = '128MB'")
            await owner.execute(row["restore"])
            await owner.execute(_RESTORED, row["position"])


async def restore_all(owners: Connections) -> None:
    """Make again everything that was dropped."""
    for service in _FILLED:
        await restore(owners, service)


async def forget(owners: Connections) -> None:
    """Remove the lists, which are empty."""
    for service in _FILLED:
        await owners[service].execute("DROP TABLE IF EXISTS upgrade_suspended")
