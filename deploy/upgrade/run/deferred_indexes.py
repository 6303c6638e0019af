"""What waits until the rows are in: indexes and keys, which cost a fraction when built at once.

Only in tables that hold nothing yet, so nobody relies on them meanwhile; checks stay. Row-level
security waits for the schema's owner, who loads the rows: PostgreSQL refuses COPY to whom it holds.
It stays in force for the service's own role. What is taken away is written down in the same
transaction, in the words that make it again. A restart, and a rollback, find the list and go on
with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.upgrade.run.plan import HOMES
from deploy.upgrade.targets import Connections, seeing_everything

_TABLE = """
    CREATE TABLE IF NOT EXISTS upgrade_suspended (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL,
        table_name text NOT NULL,
        restore text NOT NULL
    )
"""
FILLED = {
    "identity": ("users",),
    "vouchers": (
        "client_copies",
        *(table for table, service in HOMES.items() if service == "vouchers"),
    ),
}
INDEX, KEY, FOREIGN_KEY = "index", "key", "foreign key"
CHECK, OWNER_POLICY = "check of a foreign key", "owner policy"
"""What is restored, in this order. Several indexes of a table may be built side by side; a key is
then made of its index at once. Foreign keys lean on keys: each is made without looking at the rows
that are there and then checked, which keeps nobody from checking another table's. Last come the
policies for the owner, who checks faster without them."""

# What is deferrable stays: a key that is made of an index would have to be told.
_KEYS = """
    SELECT conrelid::regclass::text AS table_name, conname AS name, conindid,
           conindid::regclass::text AS index_name, pg_get_indexdef(conindid) AS index,
           CASE contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END AS kind
    FROM pg_constraint WHERE conrelid = ANY($1::regclass[]) AND contype IN ('p', 'u')
    AND NOT condeferrable ORDER BY contype, conname
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
_TABLES_WAITING = """
    SELECT DISTINCT table_name FROM upgrade_suspended WHERE kind = $1 ORDER BY 1
"""
_WAITING = """
    SELECT position FROM upgrade_suspended WHERE kind = $1 AND table_name = $2 ORDER BY position
"""
_STATEMENT = "SELECT restore FROM upgrade_suspended WHERE position = $1"
_NEXT = """
    SELECT position FROM upgrade_suspended
    WHERE kind = $1 AND ($2::text IS NULL OR table_name = $2) ORDER BY position LIMIT 1
"""
_RESTORED = "DELETE FROM upgrade_suspended WHERE position = $1"


async def defer(owners: Connections) -> None:
    """Take away what waits, and write down how to restore it.

    Done once: what an earlier run has taken away is not taken again after its restoring began.
    """
    for service, tables in FILLED.items():
        owner = owners[service]
        if await _has_list(owner):
            continue
        async with seeing_everything(owner):
            await owner.execute(_TABLE)
            await _drop_keys(owner, [table for table in tables if await _is_empty(owner, table)])
            await _let_owner_in(owner, tables)


async def are_tables_independent(owners: Connections) -> bool:
    """Say whether the tables may be filled in any order: no foreign key is left between them."""
    return not any(
        [
            await owners[service].fetchval(_FOREIGN_KEYS_BETWEEN, tables)
            for service, tables in FILLED.items()
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
        await owner.execute(_NOTE, INDEX, index["table_name"], index["definition"])
    for key in keys:
        await _note_key(owner, key)
    for key in foreign:
        await _note_foreign_key(owner, key)
    for key in (*foreign, *keys):
        await owner.execute(
            f"ALTER TABLE {key['table_name']} DROP CONSTRAINT {_quoted(key['name'])}"
        )
    for index in indexes:
        await owner.execute(f"DROP INDEX {index['name']}")


async def _note_key(owner: Any, key: Mapping[str, str]) -> None:
    table, name, index = key["table_name"], _quoted(key["name"]), key["index_name"]
    make = f"ALTER TABLE {table} ADD CONSTRAINT {name} {key['kind']} USING INDEX {index}"
    await owner.execute(_NOTE, INDEX, table, key["index"])
    await owner.execute(_NOTE, KEY, table, make)


async def _note_foreign_key(owner: Any, key: Mapping[str, str]) -> None:
    table, name = key["table_name"], _quoted(key["name"])
    make = f"ALTER TABLE {table} ADD CONSTRAINT {name} {key['definition']} NOT VALID"
    await owner.execute(_NOTE, FOREIGN_KEY, table, make)
    await owner.execute(_NOTE, CHECK, table, f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


async def _let_owner_in(owner: Any, tables: Sequence[str]) -> None:
    for [table] in await owner.fetch(_HOLDING_THEIR_OWNER, tables):
        restore = f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"
        await owner.execute(_NOTE, OWNER_POLICY, table, restore)
        await owner.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def restore(owner: Any, kind: str, table: str | None = None) -> None:
    """Make again what was taken away of a kind, in a whole schema or of one table."""
    if not await _has_list(owner):
        return
    while (position := await owner.fetchval(_NEXT, kind, table)) is not None:
        await restore_one(owner, position)


async def restore_one(owner: Any, position: int) -> None:
    """Make again one thing of the list, in a transaction of its own.

    Keys are checked against every row as they are made, so nothing stays that they forbid.
    """
    async with seeing_everything(owner):
        await owner.execute("SET LOCAL maintenance_work_mem = '256MB'")
        await owner.execute(await owner.fetchval(_STATEMENT, position))
        await owner.execute(_RESTORED, position)


async def list_indexes(owner: Any, table: str) -> list[int]:
    """Return which indexes of a table are still to be made, as positions in the list."""
    if not await _has_list(owner):
        return []
    return [position for [position] in await owner.fetch(_WAITING, INDEX, table)]


async def list_tables_to_check(owner: Any) -> list[str]:
    """Return the tables of a schema whose foreign keys are still to be checked."""
    if not await _has_list(owner):
        return []
    return [table for [table] in await owner.fetch(_TABLES_WAITING, CHECK)]


async def restore_everywhere(owners: Connections, *kinds: str) -> None:
    """Make again all there is of some kinds, one kind after the other."""
    for service in FILLED:
        for kind in kinds:
            await restore(owners[service], kind)


async def drop_lists(owners: Connections) -> None:
    """Remove the lists, which are empty."""
    for service in FILLED:
        await owners[service].execute("DROP TABLE IF EXISTS upgrade_suspended")
