"""Finds rows that violate version 1's own constraints where these constraints were dropped.

Version 2 cannot store rows that violate a key or a foreign key, and only their owner can decide
which row is right. They stop the upgrade before anything is written.
"""

from collections.abc import AsyncIterator
from typing import Any

from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.source import TABLES

EXAMPLES = 10

KEYS = {
    **dict.fromkeys(TABLES, (("id",),)),
    "voucher_codes": (("id",), ("code",)),
    "reservations": (("id",), ("client_id", "therapy_class_id", "session_date")),
}
REFERENCES = (
    ("vouchers", "therapy_class_id", "therapy_classes"),
    ("voucher_codes", "voucher_id", "vouchers"),
    ("sessions", "therapy_class_id", "therapy_classes"),
    ("reservations", "therapy_class_id", "therapy_classes"),
    ("reservations", "voucher_code_id", "voucher_codes"),
)

_IS_KEY = """
    SELECT EXISTS (
        SELECT 1 FROM pg_index i WHERE i.indrelid = $1::text::regclass AND i.indisunique
        AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
        AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)) = $2::text[]
    )
"""
_IS_REFERENCE = """
    SELECT EXISTS (
        SELECT 1 FROM pg_constraint c JOIN pg_attribute a
        ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
        WHERE c.contype = 'f' AND c.convalidated AND c.conrelid = $1::text::regclass
        AND a.attname = $2 AND c.confrelid = $3::text::regclass
    )
"""
_WITHOUT_ID = "SELECT count(*) FROM public.{table} WHERE id IS NULL"
_TWICE = """
    SELECT count(*) AS rows, (array_agg(first ORDER BY first))[1:$1] AS ids FROM (
        SELECT min(id) AS first FROM public.{table} WHERE ({columns}) IS NOT NULL
        GROUP BY {columns} HAVING count(*) > 1
    ) same
"""
_DANGLING = """
    SELECT count(*) AS rows, (array_agg(r.id ORDER BY r.id))[1:$1] AS ids FROM public.{table} r
    WHERE r.{column} IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM public.{of} o WHERE o.id = r.{column})
"""
_ENCODING = "SELECT current_setting('server_encoding')"

REMEDY = "Correct these rows in version 1, and add the constraint again."


async def faults(connection: Any) -> AsyncIterator[str]:
    """Yield the problems that stop the upgrade. Rows under a valid constraint are not read."""
    if await connection.fetchval(_ENCODING) == "SQL_ASCII":
        yield (
            "Version 1's database has no encoding (SQL_ASCII). Dump it, and restore the dump into a"
            " database with the encoding of its texts."
        )
    for table in TABLES:
        async for fault in _find_key_violations(connection, table):
            yield fault
    for table, column, of in REFERENCES:
        names = (f"public.{table}", column, f"public.{of}")
        if not await connection.fetchval(_IS_REFERENCE, *names):
            query = _DANGLING.format(table=table, column=column, of=of)
            violations = await connection.fetchrow(query, EXAMPLES)
            if violations["rows"]:
                ids = _list_ids(violations)
                yield f"{violations['rows']:,} {table} refer to {of} that do not exist: {ids}."


async def _find_key_violations(connection: Any, table: str) -> AsyncIterator[str]:
    # The names of tables and columns are constants of this module.
    for columns in KEYS[table]:
        if await connection.fetchval(_IS_KEY, f"public.{table}", sorted(columns)):
            continue
        query = _TWICE.format(table=table, columns=", ".join(columns))
        duplicates = await connection.fetchrow(query, EXAMPLES)
        if duplicates["rows"]:
            yield (
                f"{duplicates['rows']:,} groups of {table} have the same {', '.join(columns)}:"
                f" {_list_ids(duplicates)}."
            )
    without_id = await connection.fetchval(_WITHOUT_ID.format(table=table))
    if without_id:
        yield f"{without_id:,} {table} have no id."


def _list_ids(group: Any) -> str:
    more = " …" if group["rows"] > len(group["ids"]) else ""
    return "ids " + ", ".join(map(str, group["ids"])) + more


async def require_sound(connection: Any) -> None:
    """Raise UpgradeError for the first problem that stops the upgrade."""
    async for fault in faults(connection):
        raise UpgradeError(fault, REMEDY)
