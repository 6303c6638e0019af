"""A table that is copied: of which rows of version 1, and what becomes of each column."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared import moments


@dataclass(frozen=True)
class Finding:
    """A kind of row that is changed or set aside: which rows, and what the report says of each.

    Both are expressions over a row `r` of version 1; the second is a jsonb.
    """

    of: str
    detail: str


@dataclass(frozen=True)
class CopyStep:
    """Fills a table of a service from rows of version 1, converted by version 1's own server.

    `columns` tells for each column of the target what it is made of, exactly in its type:
    the rows travel in PostgreSQL's binary form, and nothing looks at them on the way. `read` is
    where they come from, with ids of the table `counted` from $1 to $2. In all of it the words in
    braces are replaced by the plan's values (see `literals`).

    The statements keep to what PostgreSQL 12 understands.
    """

    name: str
    service: str
    columns: Mapping[str, str]
    read: str
    findings: Mapping[str, Finding] = field(default_factory=dict)
    found_in: str = ""
    counted: str = ""

    @property
    def table(self) -> str:
        """The table that is filled, which is in the service's schema."""
        return self.name

    @property
    def ids_of(self) -> str:
        """The table of version 1 whose ids are gone through."""
        return self.counted or self.name

    def extract(self, values: Mapping[str, str]) -> str:
        """Return the query for the rows of a range of ids."""
        listed = ", ".join(self.columns.values())
        return f"SELECT {listed} FROM {self.read}".format(**values)  # noqa: S608

    def find(self, values: Mapping[str, str]) -> str:
        """Return the query for what is changed or set aside, as rows of `upgrade_findings`."""
        kinds = ", ".join(
            f"('{rule}'::text, {finding.of}, {finding.detail})"
            for rule, finding in self.findings.items()
        )
        some = " OR ".join(f"({finding.of})" for finding in self.findings.values())
        return (
            f"SELECT '{self.name}'::text, f.rule, r.id::bigint, f.detail"  # noqa: S608
            f" FROM {self.found_in or f'public.{self.name} r'}"
            f" CROSS JOIN LATERAL (VALUES {kinds}) AS f (rule, so, detail)"
            f" WHERE ({some}) AND f.so"
        ).format(**values)


FINDING_COLUMNS: Sequence[str] = ("table_name", "rule", "id", "detail")


FIRST_DAY, LAST_DAY = moments.FIRST_DAY.isoformat(), moments.LAST_DAY.isoformat()
"""The first and the last day that version 2 takes in. PostgreSQL's go from 4713 BC to the year
5874897, with an infinity at either end, and Python's from 1 to 9999."""


def day(expression: str) -> str:
    """Return a day within version 2's bounds: what is outside becomes the first or last of them."""
    return (
        f"CASE WHEN {expression} < date '{FIRST_DAY}' THEN date '{FIRST_DAY}'"
        f" WHEN {expression} > date '{LAST_DAY}' THEN date '{LAST_DAY}'"
        f" ELSE ({expression})::date END"
    )


def moment(expression: str, *, apart: str = "interval '0'") -> str:
    """Return a timestamp within version 2's bounds, and without a zone.

    `apart` is added to what was outside, where equal moments would break a key.
    """
    first = f"timestamp '{FIRST_DAY}'"
    last = f"timestamp '{LAST_DAY}'"
    return (
        f"CASE WHEN {expression} < {first} THEN {first} + {apart}"
        f" WHEN {expression} >= {last} + interval '1 day' THEN {last} + {apart}"
        f" ELSE {expression} END"
    )


def outside_days(*columns: str) -> Finding:
    """Return the finding that days were moved to the first or last that version 2 knows."""
    return _outside(columns, f"date '{FIRST_DAY}'", f"> date '{LAST_DAY}'", day)


def outside_moments(*columns: str) -> Finding:
    """Return the same of timestamps."""
    end = f">= timestamp '{LAST_DAY}' + interval '1 day'"
    return _outside(columns, f"timestamp '{FIRST_DAY}'", end, moment)


def _outside(
    columns: Sequence[str], first: str, beyond: str, within: Callable[[str], str]
) -> Finding:
    of = " OR ".join(f"r.{name} < {first} OR r.{name} {beyond}" for name in columns)
    was = ", ".join(f"'{name}', r.{name}" for name in columns)
    is_ = ", ".join(f"'{name}', {within(f'r.{name}')}" for name in columns)
    return Finding(
        f"({of})",
        f"jsonb_build_object('was', jsonb_build_object({was}), 'is', jsonb_build_object({is_}))",
    )


def instant(column: str, *otherwise: str) -> str:
    """Return an instant in UTC of a column without zone; where it is null, of the next one.

    Where version 1 knows none of them it is the moment at which the upgrade began.
    """
    known = ", ".join(f"r.{name}::timestamp" for name in (column, *otherwise))
    return f"({moment(f'coalesce({known}, {{began_at}})')}) AT TIME ZONE 'UTC'"


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
    """Return the finding that a null was taken as the value that version 1 meant by it."""
    return Finding(f"r.{column} IS NULL", f"jsonb_build_object('{column}', {value})")


def not_one_of(column: str, words: str, value: str) -> Finding:
    """Return the finding that a word which version 2 does not know was taken as another value."""
    return Finding(
        f"r.{column} NOT IN ({words})",
        f"jsonb_build_object('was', r.{column}, 'is', {value})",
    )
