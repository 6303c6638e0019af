"""Drops indexes and keys before the rows are copied, and creates them again afterwards.

An index that is built once costs a fraction of one that is updated for each row. Indexes and keys
are dropped only in empty tables, so no process relies on them in between; check constraints stay.
Row-level security is suspended for the schema's owner, who copies the rows, because PostgreSQL
refuses COPY to a role under row-level security. It stays in force for the service's own role. The
transaction that drops something also stores the statement that creates it again. A restart and a
rollback continue with the stored list.
"""

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
"""The kinds of objects, in the order in which they are restored. Several indexes of a table may be
built at the same time; a key is then created from its index without delay. Foreign keys need the
keys: each is created without checking the existing rows and checked afterwards, which does not
block the checks of other tables. The owner's policies are last, because checks are faster without
them."""

# Deferrable keys stay: the statement that creates a key from an index would need that property.
_KEYS = """
    SELECT conrelid::regclass::text AS table_name, conname AS name, conindid,
           conindid::regclass::text AS index_name, pg_get_indexdef(conindid) AS index,
           CASE contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END AS kind
    FROM pg_constraint WHERE conrelid = ANY($1::regclass[]) AND contype IN ('p', 'u')
    AND NOT condeferrable ORDER BY contype, conname
"""
# The tables' own foreign keys, and those of other tables that refer to a dropped key.
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
_FORCED_FOR_OWNER = """
    SELECT oid::regclass::text FROM pg_class
    WHERE oid = ANY($1::regclass[]) AND relforcerowsecurity ORDER BY 1
"""
_STORE = "INSERT INTO upgrade_suspended (kind, table_name, restore) VALUES ($1, $2, $3)"
_TABLES_TO_RESTORE = """
    SELECT DISTINCT table_name FROM upgrade_suspended WHERE kind = $1 ORDER BY 1
"""
_TO_RESTORE = """
    SELECT position FROM upgrade_suspended WHERE kind = $1 AND table_name = $2 ORDER BY position
"""
_STATEMENT = "SELECT restore FROM upgrade_suspended WHERE position = $1"
_NEXT = """
    SELECT position FROM upgrade_suspended
    WHERE kind = $1 AND ($2::text IS NULL OR table_name = $2) ORDER BY position LIMIT 1
"""
_RESTORED = "DELETE FROM upgrade_suspended WHERE position = $1"


async def defer(owners: Connections) -> None:
    """Drop indexes and keys, and store the statements that create them again.

    This happens once: it is not repeated after an earlier run began to restore them.
    """
    for service, tables in FILLED.items():
        owner = owners[service]
        if await _has_list(owner):
            continue
        async with seeing_everything(owner):
            await owner.execute(_TABLE)
            empty = [
                table
                for table in tables
                if not await owner.fetchval(f"SELECT EXISTS (SELECT 1 FROM {table})")  # noqa: S608
            ]
            await _drop_indexes(owner, empty)
            for [table] in await owner.fetch(_FORCED_FOR_OWNER, tables):
                statement = f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"
                await owner.execute(_STORE, OWNER_POLICY, table, statement)
                await owner.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")


async def are_tables_independent(owners: Connections) -> bool:
    """Return whether the tables may be filled in any order: no foreign key connects them."""
    return not any(
        [
            await owners[service].fetchval(_FOREIGN_KEYS_BETWEEN, tables)
            for service, tables in FILLED.items()
        ]
    )


async def _has_list(owner: Any) -> bool:
    return bool(await owner.fetchval("SELECT to_regclass('upgrade_suspended') IS NOT NULL"))


async def _drop_indexes(owner: Any, tables: list[str]) -> None:
    keys = await owner.fetch(_KEYS, tables)
    foreign = await owner.fetch(_FOREIGN_KEYS, tables, [key["conindid"] for key in keys])
    indexes = await owner.fetch(_INDEXES, tables)
    for index in indexes:
        await owner.execute(_STORE, INDEX, index["table_name"], index["definition"])
    for key in keys:
        table, name, index = key["table_name"], _quoted(key["name"]), key["index_name"]
        statement = f"ALTER TABLE {table} ADD CONSTRAINT {name} {key['kind']} USING INDEX {index}"
        await owner.execute(_STORE, INDEX, table, key["index"])
        await owner.execute(_STORE, KEY, table, statement)
    for key in foreign:
        table, name = key["table_name"], _quoted(key["name"])
        statement = f"ALTER TABLE {table} ADD CONSTRAINT {name} {key['definition']} NOT VALID"
        await owner.execute(_STORE, FOREIGN_KEY, table, statement)
        check = f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
        await owner.execute(_STORE, CHECK, table, check)
    for key in (*foreign, *keys):
        await owner.execute(
            f"ALTER TABLE {key['table_name']} DROP CONSTRAINT {_quoted(key['name'])}"
        )
    for index in indexes:
        await owner.execute(f"DROP INDEX {index['name']}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def restore(owner: Any, kind: str, table: str | None = None) -> None:
    """Restore all objects of a kind, in a whole schema or of one table."""
    if not await _has_list(owner):
        return
    while (position := await owner.fetchval(_NEXT, kind, table)) is not None:
        await restore_one(owner, position)


async def restore_one(owner: Any, position: int) -> None:
    """Restore one object of the list in its own transaction.

    The server checks a key against every row when it creates the key.
    """
    async with seeing_everything(owner):
        await owner.execute("SET LOCAL maintenance_work_mem = '256MB'")
        await owner.execute(await owner.fetchval(_STATEMENT, position))
        await owner.execute(_RESTORED, position)


async def list_indexes(owner: Any, table: str) -> list[int]:
    """Return the indexes of a table that must still be created, as positions in the list."""
    if not await _has_list(owner):
        return []
    return [position for [position] in await owner.fetch(_TO_RESTORE, INDEX, table)]


async def list_tables_to_check(owner: Any) -> list[str]:
    """Return the tables of a schema whose foreign keys must still be checked."""
    if not await _has_list(owner):
        return []
    return [table for [table] in await owner.fetch(_TABLES_TO_RESTORE, CHECK)]


async def restore_everywhere(owners: Connections, *kinds: str) -> None:
    """Restore all objects of some kinds in every schema, one kind after the other."""
    for service in FILLED:
        for kind in kinds:
            await restore(owners[service], kind)


async def drop_lists(owners: Connections) -> None:
    """Drop the lists, which must be empty."""
    for service in FILLED:
        await owners[service].execute("DROP TABLE IF EXISTS upgrade_suspended")
