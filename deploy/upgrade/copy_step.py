"""A table that is copied: what is read, what it passes through, what becomes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

LANES = 2
"""How many chunks of a table are under way at once: one is read, one is written."""


@dataclass(frozen=True)
class CopyStep:
    """Reads chunks of ids from one database and writes them into a service's schema.

    `extract` reads rows of version 1 as they are, ids from $1 to $2. They pass through a staging
    table of exactly these columns; `load` makes version 2's rows of them, with `upgrade_plan` at
    hand. Each of `findings` (rule → the rest of a select from staging `s` and plan `p`, which
    begins with a detail) notes what was changed or set aside. The statements name the staging
    table without its lane.
    """

    name: str
    service: str
    table: str
    staging: dict[str, str]
    extract: str
    load: str
    findings: Mapping[str, str] = field(default_factory=dict)
    read_from: str = "source"
    source_table: str = ""

    def staging_table(self, lane: int) -> str:
        """Return the table that a chunk passes through, of one lane."""
        return f"{self._staging}_{lane}"

    @property
    def _staging(self) -> str:
        """The staging table as the statements of a step name it, whatever the lane."""
        return f"upgrade_staging_{self.name}"

    @property
    def counted(self) -> str:
        """The table whose ids are gone through."""
        return self.source_table or self.name

    def statements(self, lane: int) -> list[str]:
        """Return what makes version 2's rows of a lane's chunk, and notes what was changed."""
        findings = (
            "INSERT INTO upgrade_findings (table_name, rule, id, detail)"
            f" SELECT '{self.name}', '{rule}', s.id, {select}"
            for rule, select in self.findings.items()
        )
        table = self.staging_table(lane)
        return [text.replace(f"{self._staging} ", f"{table} ") for text in (self.load, *findings)]


def instant(column: str, *otherwise: str) -> str:
    """Return an instant in UTC of a column without zone; where it is null, of the next one.

    Where version 1 knows none of them it is the moment at which the upgrade began.
    """
    known = ", ".join(f"s.{name}" for name in (column, *otherwise))
    return f"coalesce(coalesce({known}) AT TIME ZONE 'UTC', p.began_at)"


CREATED = instant("created_at", "updated_at")
UPDATED = instant("updated_at", "created_at")


def unknown_time(table: str) -> str:
    """Return the finding that a row does not say when it was made."""
    return (
        f"jsonb_build_object('created_at', {CREATED})"
        f" FROM {table} s, upgrade_plan p WHERE s.created_at IS NULL"
    )


def taken_as(table: str, column: str, value: str) -> str:
    """Return the finding that a null was taken as the value that version 1 meant by it."""
    return f"jsonb_build_object('{column}', {value}) FROM {table} s WHERE s.{column} IS NULL"
