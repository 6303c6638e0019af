"""What a service says to PostgreSQL during one request, as a script for pgbench.

The server's log tells every statement with its parameters. In the script each parameter is a
variable of pgbench's, sent apart from the statement as the service does (`-M prepared`).
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


@dataclass
class Statement:
    """A statement as it was sent: parameters are text, or None for NULL."""

    sql: str
    parameters: dict[int, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewrite:
    """What is another value at each run: a parameter to be replaced by an expression.

    `answers` marks the statement whose single answered row becomes variables `<answers>…`.
    """

    parameter: Callable[[Statement, str], str | None]
    answers: Callable[[Statement], str | None] = lambda _: None


@asynccontextmanager
async def logging_statements(database: BenchDatabase) -> AsyncIterator[None]:
    """Let the server log what the service's role says in sessions that begin meanwhile."""
    async with database.admin() as admin:
        await admin.execute(f"ALTER ROLE \"{database.service}\" SET log_statement = 'all'")
        try:
            yield
        finally:
            await admin.execute(f'ALTER ROLE "{database.service}" RESET log_statement')


def statements(log: Path, offset: int) -> list[Statement]:
    """Return what the server's log tells from a byte on, in order."""
    found: list[Statement] = []
    for entry in _entries(log.read_bytes()[offset:].decode().split("\n")):
        told = _ENTRY.match(entry)
        if told is None:
            continue
        level, text = told.groups()
        if level == "LOG" and (statement := _STATEMENT.fullmatch(text)):
            found.append(Statement(statement[1].strip().rstrip(";")))
        elif level == "DETAIL" and found and "arameters: " in text:
            found[-1].parameters = {int(n): _unquoted(v) for n, v in _PARAMETER.findall(text)}
    return [each for each in found if each.sql]


def _entries(lines: Sequence[str]) -> list[str]:
    """Return whole entries: what continues one begins with a tab."""
    entries: list[str] = []
    for line in lines:
        if line.startswith("\t") and entries:
            entries[-1] += "\n" + line[1:]
        else:
            entries.append(line)
    return entries


def _unquoted(value: str) -> str | None:
    return None if value == "NULL" else value[1:-1].replace("''", "'")


def script(recorded: Sequence[Statement], rewrite: Rewrite) -> tuple[str, Mapping[str, str]]:
    """Return pgbench's script and the values of its variables."""
    lines: list[str] = []
    values: dict[str, str] = {}
    for number, statement in enumerate(recorded):
        sql, own = _rewritten(statement, f"s{number}p", rewrite)
        values |= own
        name = rewrite.answers(statement)
        lines.append(" ".join(sql.split()) + (f" \\gset {name}" if name else ";"))
    return "\n".join(lines) + "\n", values


def _rewritten(
    statement: Statement, prefix: str, rewrite: Rewrite
) -> tuple[str, Mapping[str, str]]:
    values: dict[str, str] = {}

    def place(match: re.Match[str]) -> str:
        value = statement.parameters[int(match[1])]
        if not value:  # pgbench has no variable without a value
            return "NULL" if value is None else "''"
        other = rewrite.parameter(statement, value)
        if other is not None:
            return other
        values[prefix + match[1]] = value
        return f":{prefix}{match[1]}"

    return _PLACE.sub(place, statement.sql), values
