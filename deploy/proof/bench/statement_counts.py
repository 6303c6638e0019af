"""Counts the statements and transactions of each role in PostgreSQL's log.

Each entry of `log_statement` is one message of a client and the server's answer, so their number is
that of the round trips; several statements that are sent in one message are one entry.
"""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

_SETTINGS = {
    "log_statement": "all",
    # The role and the virtual id of the transaction; each transaction has its own.
    "log_line_prefix": "%m [%p] %q%u %v ",
    "log_parameter_max_length": "0",
}
_ENTRY = re.compile(
    r"^\d{4}-\S+ \S+ \S+ \[\d+\] (?P<role>\S+) (?P<transaction>\d+/\d+) LOG:  "
    r"(?:statement|execute [^:]*): +(?P<sql>.*)$",
    re.MULTILINE,
)
_ROLLBACK = re.compile(r"ROLLBACK(?! TO)", re.IGNORECASE)


@dataclass(frozen=True)
class StatementCounts:
    """The number of round trips and of commits by role."""

    round_trips: Mapping[str, int]
    commits: Mapping[str, int]

    @classmethod
    def of(cls, log: str) -> "StatementCounts":
        """Count the entries of a piece of the log."""
        round_trips: Counter[str] = Counter()
        transactions: dict[str, set[str]] = defaultdict(set)
        for entry in _ENTRY.finditer(log):
            role, transaction = entry["role"], entry["transaction"]
            round_trips[role] += 1
            if _ROLLBACK.match(entry["sql"]):
                transactions[role].discard(transaction)
            else:
                transactions[role].add(transaction)
        return cls(round_trips, Counter({role: len(own) for role, own in transactions.items()}))


@asynccontextmanager
async def logging_every_statement(database_url: str) -> AsyncIterator[None]:
    """Make the server log the statements of all its sessions; the URL is the superuser's."""
    connection = await asyncpg.connect(database_url)
    try:
        for name, value in _SETTINGS.items():
            await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        await connection.execute("SELECT pg_reload_conf()")
        while await connection.fetchval("SHOW log_statement") != "all":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield
    finally:
        for name in _SETTINGS:
            await connection.execute(f"ALTER SYSTEM RESET {name}")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
