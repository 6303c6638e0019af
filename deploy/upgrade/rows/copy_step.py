"""Describes how a table is copied: its rows of version 1, and the value of each column."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared import moments


@dataclass(frozen=True)
class Finding:
    """A group of rows that are changed or set aside.

    `condition` selects the rows; `detail` is the jsonb that the report contains for each. Both are
    expressions over a row `r` of version 1.
    """

    condition: str
    detail: str


@dataclass(frozen=True)
class CopyStep:
    """Fills a table of a service from rows of version 1, which version 1's server converts.

    `columns` has an expression for each column of the target, exactly in its type, because the rows
    are passed on in PostgreSQL's binary form without being read. `read` is the FROM clause, with
    ids of the table `counted` from $1 to $2. `found_in` is the FROM clause of the findings. Names
    in braces are replaced by the plan's values (see `sql_literals`). With `staging` the rows wait
    in that table until all are copied, because the conversion of one depends on others.

    The statements must run on PostgreSQL 12.
    """

    name: str
    service: str
    columns: Mapping[str, str]
    read: str
    findings: Mapping[str, Finding] = field(default_factory=dict)
    found_in: str = ""
    counted: str = ""
    staging: str = ""

    @property
    def table(self) -> str:
        """The name of the table in the service's schema that receives the copied rows."""
        return self.staging or self.name

    @property
    def ids_of(self) -> str:
        """The table of version 1 whose ids divide the copy into chunks."""
        return self.counted or self.name

    def extract(self, values: Mapping[str, str]) -> str:
        """Return the query for the rows of a range of ids."""
        expressions = ", ".join(self.columns.values())
        return f"SELECT {expressions} FROM {self.read}".format(**values)  # noqa: S608

    def find(self, values: Mapping[str, str]) -> str:
        """Return the query for changed rows and rows set aside, as rows of `upgrade_findings`."""
        kinds = ", ".join(
            f"('{rule}'::text, {finding.condition}, {finding.detail})"
            for rule, finding in self.findings.items()
        )
        any_condition = " OR ".join(f"({finding.condition})" for finding in self.findings.values())
        return (
            f"SELECT '{self.name}'::text, f.rule, r.id::bigint, f.detail"  # noqa: S608
            f" FROM {self.found_in or f'public.{self.name} r'}"
            f" CROSS JOIN LATERAL (VALUES {kinds}) AS f (rule, so, detail)"
            f" WHERE ({any_condition}) AND f.so"
        ).format(**values)


FINDING_COLUMNS: Sequence[str] = ("table_name", "rule", "id", "detail")


FIRST_DAY, LAST_DAY = moments.FIRST_DAY.isoformat(), moments.LAST_DAY.isoformat()
"""The first and the last day that version 2 accepts. PostgreSQL's days go from 4713 BC to the year
5874897, with an infinity at either end, and Python's from the year 1 to 9999."""


def day(expression: str) -> str:
    """Return the SQL of a day, moved to version 2's first or last day if it is outside."""
    return (
        f"CASE WHEN {expression} < date '{FIRST_DAY}' THEN date '{FIRST_DAY}'"
        f" WHEN {expression} > date '{LAST_DAY}' THEN date '{LAST_DAY}'"
        f" ELSE ({expression})::date END"
    )


def moment(expression: str, *, apart: str = "interval '0'") -> str:
    """Return the SQL of a timestamp without a zone, moved to version 2's first or last day.

    `apart` is an interval that is added to moved timestamps where equal ones would violate a key.
    """
    first = f"timestamp '{FIRST_DAY}'"
    last = f"timestamp '{LAST_DAY}'"
    return (
        f"CASE WHEN {expression} < {first} THEN {first} + {apart}"
        f" WHEN {expression} >= {last} + interval '1 day' THEN {last} + {apart}"
        f" ELSE {expression} END"
    )


def outside_days(*columns: str) -> Finding:
    """Return the finding that days were moved to version 2's first or last day."""
    return _outside(columns, f"date '{FIRST_DAY}'", f"> date '{LAST_DAY}'", day)


def outside_moments(*columns: str) -> Finding:
    """Return the finding that timestamps were moved to version 2's first or last day."""
    end = f">= timestamp '{LAST_DAY}' + interval '1 day'"
    return _outside(columns, f"timestamp '{FIRST_DAY}'", end, moment)


def _outside(
    columns: Sequence[str], first: str, beyond: str, within: Callable[[str], str]
) -> Finding:
    condition = " OR ".join(f"r.{name} < {first} OR r.{name} {beyond}" for name in columns)
    was = ", ".join(f"'{name}', r.{name}" for name in columns)
    is_ = ", ".join(f"'{name}', {within(f'r.{name}')}" for name in columns)
    return Finding(
        f"({condition})",
        f"jsonb_build_object('was', jsonb_build_object({was}), 'is', jsonb_build_object({is_}))",
    )


def instant(column: str, *otherwise: str) -> str:
    """Return the SQL of an instant in UTC: of the column without zone, or of the first not null.

    If all columns are null, it is the moment at which the upgrade began.
    """
    columns = ", ".join(f"r.{name}::timestamp" for name in (column, *otherwise))
    return f"({moment(f'coalesce({columns}, {{began_at}})')}) AT TIME ZONE 'UTC'"


CREATED = instant("created_at", "updated_at")
UPDATED = instant("updated_at", "created_at")
UNKNOWN_TIME = Finding("r.created_at IS NULL", f"jsonb_build_object('created_at', {CREATED})")
NO_ID_OF_VERSION_2 = Finding("r.id <= 0", "jsonb_build_object('id', r.id)")
OF_EVERY_TABLE = {
    "created_at_unknown": UNKNOWN_TIME,
    "time_outside_the_calendar": outside_moments("created_at", "updated_at"),
    "id_not_positive": NO_ID_OF_VERSION_2,
}


def taken_as(column: str, value: str) -> Finding:
    """Return the finding that a null was replaced by the value that it meant in version 1."""
    return Finding(f"r.{column} IS NULL", f"jsonb_build_object('{column}', {value})")


def not_one_of(column: str, words: str, value: str) -> Finding:
    """Return the finding that a value other than `words` was replaced by another value."""
    return Finding(
        f"r.{column} NOT IN ({words})",
        f"jsonb_build_object('was', r.{column}, 'is', {value})",
    )
