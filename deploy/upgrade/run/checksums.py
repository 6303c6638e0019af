"""Compares a table on both sides by checksums of its rows, summed up over ranges of ids."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.upgrade.run.table_copy import BEFORE_THE_FIRST_ID, ends_of_chunks

RANGE_ROWS = 50_000
LISTED_IDS = 20
"""How many ids of rows that differ are listed."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a connection, the FROM clause, and the columns as text."""

    connection: Any
    read_from: str
    columns: Sequence[str]
    arguments: tuple[Any, ...] = ()

    @property
    def _checksum(self) -> str:
        # 60 bits of each row's MD5 detect every accidental difference. They do not protect against
        # constructed collisions, for which an attacker would need write access to both databases.
        row = f"ROW({', '.join(self.columns)})::text"
        return f"('x' || substr(md5({row}), 1, 15))::bit(60)::bigint"

    async def total(self, first: int, last: int) -> tuple[int, int]:
        """Return the number of rows in a range of ids, and the sum of their checksums."""
        row = await self.connection.fetchrow(
            f"SELECT count(*) AS rows, coalesce(sum({self._checksum}), 0)::text AS sum"  # noqa: S608
            f" FROM {self.read_from} WHERE r.id BETWEEN $1 AND $2",
            first,
            last,
            *self.arguments,
        )
        return row["rows"], int(row["sum"])

    async def rows(self, first: int, last: int) -> dict[int, int]:
        """Return the checksum of each row in a range of ids."""
        rows = await self.connection.fetch(
            f"SELECT r.id, {self._checksum} AS sum"  # noqa: S608
            f" FROM {self.read_from} WHERE r.id BETWEEN $1 AND $2",
            first,
            last,
            *self.arguments,
        )
        return {row["id"]: row["sum"] for row in rows}


@dataclass(frozen=True)
class Comparison:
    """The number of rows on each side, and the first ids of rows that differ."""

    expected: int
    actual: int
    differing: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether both sides have the same rows."""
        return self.expected == self.actual and not self.differing


async def compare(expected: Side, actual: Side, table: str, last_id: int) -> Comparison:
    """Compare all rows up to an id; `table` is the expected side's table without an alias."""
    differing: list[int] = []
    rows = [0, 0]
    async for first, last in _ranges(expected.connection, table, last_id):
        total, actual_total = await asyncio.gather(
            expected.total(first, last), actual.total(first, last)
        )
        rows[0] += total[0]
        rows[1] += actual_total[0]
        if total != actual_total and len(differing) < LISTED_IDS:
            there, here = await asyncio.gather(expected.rows(first, last), actual.rows(first, last))
            ids = there.keys() | here.keys()
            differing += sorted(id_ for id_ in ids if there.get(id_) != here.get(id_))
    return Comparison(rows[0], rows[1], tuple(differing[:LISTED_IDS]))


async def _ranges(connection: Any, table: str, last_id: int) -> AsyncIterator[tuple[int, int]]:
    """Yield ranges without gaps, so that they also cover rows that only the other side has."""
    after = BEFORE_THE_FIRST_ID
    async for first, last in ends_of_chunks(connection, table, after, last_id, RANGE_ROWS):
        yield first, last
        after = last
    if after < last_id:
        yield after + 1, last_id
