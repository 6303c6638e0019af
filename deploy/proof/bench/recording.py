"""Records the statements that a service sends to PostgreSQL for one request, for pgbench.

They are read from the server's log, with their parameters. In the script each parameter is a
variable of pgbench, which sends it apart from the statement, as the service does (`-M prepared`).
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.proof.bench.environment import BenchDatabase

_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d \S+ \S+ \[\d+\] (\w+): +(.*)$", re.DOTALL)
_STATEMENT = re.compile(r"(?:execute [^:]*|statement): (.*)", re.DOTALL)
_PARAMETER = re.compile(r"\$(\d+) = (NULL|'(?:[^']|'')*')")
_PLACE = re.compile(r"\$(\d+)")
_VARIABLE = re.compile(r"(?<!:):(?=[A-Za-z_])")


@dataclass
class Statement:
    """A statement as it was sent. Parameters are text, or None for NULL."""

    sql: str
    parameters: dict[int, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewrite:
    """Replaces parameters that must have a new value in each run.

    `parameter` returns the expression that replaces a value, or None to keep the value. `answers`
    returns the prefix of the variables for a statement's result row, or None to ignore the row.
    """

    parameter: Callable[[Statement, str], str | None]
    answers: Callable[[Statement], str | None] = lambda _: None


@asynccontextmanager
async def logging_statements(database: BenchDatabase) -> AsyncIterator[None]:
    """Make the server log the statements of the service's role in sessions that begin now."""
    async with database.admin() as admin:
        await admin.execute(f"ALTER ROLE \"{database.service}\" SET log_statement = 'all'")
        try:
            yield
        finally:
            await admin.execute(f'ALTER ROLE "{database.service}" RESET log_statement')


def statements(log: Path, offset: int) -> list[Statement]:
    """Return the statements in the server's log after an offset, in order."""
    result: list[Statement] = []
    for entry in _entries(log, offset):
        match = _ENTRY.match(entry)
        if match is None:
            continue
        level, text = match.groups()
        if level == "LOG" and (statement := _STATEMENT.fullmatch(text)):
            result.append(Statement(statement[1].strip().rstrip(";")))
        elif level == "DETAIL" and result and "arameters: " in text:
            result[-1].parameters = {
                int(number): None if value == "NULL" else value[1:-1].replace("''", "'")
                for number, value in _PARAMETER.findall(text)
            }
    return [each for each in result if each.sql]


def _entries(log: Path, offset: int) -> list[str]:
    """Return the log's entries; a line that continues an entry begins with a tab."""
    entries: list[str] = []
    for line in log.read_bytes()[offset:].decode().split("\n"):
        if line.startswith("\t") and entries:
            entries[-1] += "\n" + line[1:]
        else:
            entries.append(line)
    return entries


def script(recording: Sequence[Statement], rewrite: Rewrite) -> tuple[str, Mapping[str, str]]:
    """Return pgbench's script and the values of its variables."""
    lines: list[str] = []
    values: dict[str, str] = {}
    for number, statement in enumerate(recording):
        sql, own_values = _rewrite(statement, f"s{number}p", rewrite)
        values |= own_values
        name = rewrite.answers(statement)
        lines.append(" ".join(sql.split()) + (f" \\gset {name}" if name else ";"))
    return "\n".join(lines) + "\n", values


def _rewrite(statement: Statement, prefix: str, rewrite: Rewrite) -> tuple[str, Mapping[str, str]]:
    values: dict[str, str] = {}

    def place(match: re.Match[str]) -> str:
        value = statement.parameters[int(match[1])]
        if not value:  # pgbench has no variable without a value
            return "NULL" if value is None else "''"
        expression = rewrite.parameter(statement, value)
        if expression is not None:
            return expression
        values[prefix + match[1]] = value
        return f":{prefix}{match[1]}"

    # A colon in a constant, as of the format HH24:MI, would be a variable of pgbench.
    sql = _VARIABLE.sub(":'||'", statement.sql)
    return _PLACE.sub(place, sql), values
