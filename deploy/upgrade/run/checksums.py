"""Compares a table on both sides row by row: a checksum of each row, summed up by ranges of ids."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.upgrade.run.table_copy import BEFORE_THE_FIRST_ID, ends_of_chunks

RANGE_ROWS = 50_000
NAMED = 20
"""How many rows that differ are named."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a connection, what to read from, and the columns as text."""

    connection: Any
    read_from: str
    columns: Sequence[str]
    arguments: tuple[Any, ...] = ()

    @property
    def _checksum(self) -> str:
        # 60 bits of each row's MD5: no defence against somebody who seeks a collision, which would
        # need write access to both databases, but sure to show every accident.
        row = f"ROW({', '.join(self.columns)})::text"
        return f"('x' || substr(md5({row}), 1, 15))::bit(60)::bigint"

    async def total(self, first: int, last: int) -> tuple[int, int]:
        """Return how many rows a range of ids has, and the sum of their checksums."""
        row = await self.connection.fetchrow(
            f"SELECT count(*) AS rows, coalesce(sum({self._checksum}), 0)::text AS sum"  # noqa: S608
            f" FROM {self.read_from} WHERE r.id BETWEEN $1 AND $2",
            first,
            last,
            *self.arguments,
        )
        return row["rows"], int(row["sum"])

    async def rows(self, first: int, last: int) -> dict[int, int]:
        """Return the checksum of each row of a range of ids."""
        found = await self.connection.fetch(
            f"SELECT r.id, {self._checksum} AS sum"  # noqa: S608
            f" FROM {self.read_from} WHERE r.id BETWEEN $1 AND $2",
            first,
            last,
            *self.arguments,
        )
        return {row["id"]: row["sum"] for row in found}


@dataclass(frozen=True)
class Comparison:
    """How many rows each side has, and the first ids of those that differ."""

    expected: int
    found: int
    differing: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Say whether both sides hold the same rows."""
        return self.expected == self.found and not self.differing


async def compare(expected: Side, found: Side, counted: str, last_id: int) -> Comparison:
    """Compare all rows up to an id; `counted` is the expected side's table without an alias."""
    differing: list[int] = []
    rows = [0, 0]
    async for first, last in _ranges(expected.connection, counted, last_id):
        there, here = await asyncio.gather(expected.total(first, last), found.total(first, last))
        rows[0] += there[0]
        rows[1] += here[0]
        if there != here and len(differing) < NAMED:
            differing += await _differing(expected, found, first, last)
    return Comparison(rows[0], rows[1], tuple(differing[:NAMED]))


async def _ranges(connection: Any, table: str, last_id: int) -> AsyncIterator[tuple[int, int]]:
    """Yield ranges without gaps: a row that only the other side has lies in one of them."""
    after = BEFORE_THE_FIRST_ID
    async for first, last in ends_of_chunks(connection, table, after, last_id, RANGE_ROWS):
        yield first, last
        after = last
    if after < last_id:
        yield after + 1, last_id


async def _differing(expected: Side, found: Side, first: int, last: int) -> list[int]:
    there, here = await asyncio.gather(expected.rows(first, last), found.rows(first, last))
    return sorted(id_ for id_ in there.keys() | here.keys() if there.get(id_) != here.get(id_))
