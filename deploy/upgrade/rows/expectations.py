"""What every row of version 2 must be, expressed a second time in version 1's columns.

These expressions are written independently of the conversion in the copy steps, so that a mistake
in one of them is found by the other. Every value is text in the same format on both sides. The
expressions of `source` and `target` have the same order.
"""

from dataclasses import dataclass

from deploy.upgrade.rows.users import MISSING, SUFFIX
from deploy.upgrade.rows.vouchers import UNNAMED


@dataclass(frozen=True)
class Expectation:
    """The expected rows of one table (from version 1), and the actual rows (of version 2).

    In `source` the names in braces are replaced by the plan's values.
    """

    table: str
    service: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    source_from: str
    target_from: str


def _utc(column: str) -> str:
    return f"({column} AT TIME ZONE 'UTC')::text"


_EARLIEST, _LATEST = "timestamp '1000-01-01'", "timestamp '8999-12-31'"


def _day(column: str) -> str:
    first, last = "date '1000-01-01'", "date '8999-12-31'"
    within_bounds = f"greatest(least({column}, {last}), {first})"
    return f"(CASE WHEN {column} IS NOT NULL THEN {within_bounds} END)::text"


def _moment(column: str, more: str = "interval '0'") -> str:
    inside = f"date_part('year', {column}) BETWEEN 1000 AND 8999"
    late = f"{column} > {_LATEST}"
    return (
        f"(CASE WHEN isfinite({column}) AND {inside} THEN {column}"
        f" WHEN {late} THEN {_LATEST} + {more} WHEN {column} IS NOT NULL"
        f" THEN {_EARLIEST} + {more} END)::text"
    )


def _first_known(*columns: str) -> str:
    return _moment(f"coalesce({', '.join(columns)}, {{began_at}})")


_CREATED, _UPDATED = (
    _first_known("r.created_at", "r.updated_at"),
    _first_known("r.updated_at", "r.created_at"),
)

_EMAIL = (
    "CASE WHEN r.email ~ '[^[:space:]]' THEN"
    r" regexp_replace(r.email, '^[ \t\n\r\f\v]+|[ \t\n\r\f\v]+$', '', 'g')"
    f" ELSE format('user-%s{MISSING}', r.id) END"
)

USERS = Expectation(
    table="users",
    service="identity",
    source=(
        "r.id::text",
        f"{_EMAIL} || CASE WHEN r.id = ANY({{set_aside}}) THEN '{SUFFIX}' || r.id || '.invalid'"
        " ELSE '' END",
        "CASE WHEN r.name IS NULL THEN format('User %s', r.id) ELSE r.name END",
        "CASE WHEN r.password_hash IS NULL THEN '!' ELSE r.password_hash END",
        "CASE r.role WHEN 'therapist' THEN 'therapist' WHEN 'admin' THEN"
        " CASE r.id WHEN {system_admin} THEN 'admin' ELSE 'organization_owner' END"
        " ELSE 'client' END",
        "coalesce(r.role = 'admin' AND r.id <> {system_admin}, false)::text",
        "{organization}::text",
        "(r.is_active IS NOT FALSE AND NOT r.id = ANY({set_aside}) "
        " AND coalesce(r.email ~ '[^[:space:]]', false))"
        "::text",
        _CREATED,
        _CREATED,
        _UPDATED,
    ),
    target=(
        "r.id::text",
        "r.email",
        "r.name",
        "r.password_hash",
        "r.role",
        "r.is_organization_owner::text",
        "r.organization_id::text",
        "r.is_active::text",
        _utc("r.created_at"),
        _utc("r.approved_at"),
        _utc("r.updated_at"),
    ),
    source_from="public.users r",
    target_from="users r",
)

# Nothing and less than a minute become an hour; more than a day becomes a day. PostgreSQL ignores
# nulls in greatest and least.
_MINUTES = "least(coalesce(nullif(greatest(c.duration_minutes, 0), 0), 60), 1440)"

THERAPY_CLASSES = Expectation(
    table="therapy_classes",
    service="vouchers",
    source=(
        "r.id::text",
        "{organization}::text",
        "CASE WHEN r.name IS NULL THEN format('Class %s', r.id) ELSE r.name END",
        "r.description",
        f"({_MINUTES.replace('c.', 'r.')})::text",
        "greatest(coalesce(r.capacity, 0), 1)::text",
        "r.therapist_id::text",
        "(r.is_active IS NOT FALSE)::text",
        _CREATED,
        _UPDATED,
    ),
    target=(
        "r.id::text",
        "r.organization_id::text",
        "r.name",
        "r.description",
        "r.duration_minutes::text",
        "r.capacity::text",
        "r.therapist_id::text",
        "r.is_active::text",
        _utc("r.created_at"),
        _utc("r.updated_at"),
    ),
    source_from="public.therapy_classes r",
    target_from="therapy_classes r",
)

_SPENT = "least(greatest(coalesce(r.used_sessions, 0), 0), greatest(r.total_sessions, 0))"
_OF_TYPE = (
    "CASE WHEN r.total_sessions = 10 AND c.capacity <= 1 THEN 'Standard Individual Therapy'"
    " WHEN r.total_sessions = 8 AND c.capacity > 1 THEN 'Group Therapy Package'"
    " WHEN r.total_sessions = 20 AND c.capacity <= 1 THEN 'Intensive Daily Sessions' END"
)
_PURCHASED = (
    "CASE WHEN r.purchase_date IS NOT NULL THEN r.purchase_date"
    " WHEN r.created_at IS NOT NULL THEN r.created_at::date"
    " WHEN r.updated_at IS NOT NULL THEN r.updated_at::date ELSE {today} END"
)

VOUCHERS = Expectation(
    table="vouchers",
    service="vouchers",
    source=(
        "r.id::text",
        "{organization}::text",
        "r.client_id::text",
        "r.therapy_class_id::text",
        _OF_TYPE,
        f"coalesce(c.name, '{UNNAMED}')",
        "c.duration_minutes::text",
        "c.capacity::text",
        "greatest(r.total_sessions, 0)::text",
        f"{_SPENT}::text",
        "(SELECT count(*) FROM public.voucher_codes k WHERE k.voucher_id = r.id AND k.is_spare)"
        "::text",
        "(SELECT count(*) FROM public.voucher_codes k"
        " WHERE k.voucher_id = r.id AND k.is_spare AND k.is_used)::text",
        _day(f"({_PURCHASED})"),
        _day(f"({_PURCHASED})"),
        _day("r.valid_until"),
        "CASE WHEN r.is_active IS FALSE OR r.client_id IS NULL OR r.valid_until IS NULL"
        " THEN 'cancelled'"
        " WHEN r.valid_until < {today} THEN 'expired'"
        f" WHEN {_SPENT} = greatest(r.total_sessions, 0) THEN 'completed' ELSE 'active' END",
        "'paid'",
        _CREATED,
        _UPDATED,
    ),
    target=(
        "r.id::text",
        "r.organization_id::text",
        "r.client_id::text",
        "r.therapy_class_id::text",
        "(SELECT t.name FROM voucher_types t WHERE t.id = r.voucher_type_id)",
        "r.name",
        "r.session_duration_minutes::text",
        "r.max_clients_per_session::text",
        "r.total_sessions::text",
        "r.used_sessions::text",
        "r.backup_sessions::text",
        "r.used_backup_sessions::text",
        "r.purchase_date::text",
        "r.valid_from::text",
        "r.valid_until::text",
        "r.status",
        "r.payment_status",
        _utc("r.created_at"),
        _utc("r.updated_at"),
    ),
    source_from="public.vouchers r LEFT JOIN public.therapy_classes c ON c.id = r.therapy_class_id",
    target_from="vouchers r",
)

VOUCHER_CODES = Expectation(
    table="voucher_codes",
    service="vouchers",
    source=(
        "r.id::text",
        "{organization}::text",
        "r.voucher_id::text",
        "(SELECT v.client_id FROM public.vouchers v WHERE v.id = r.voucher_id)::text",
        "CASE WHEN r.code IS NULL THEN format('WITHOUT-CODE-%s', r.id) ELSE r.code END",
        "(r.is_spare IS TRUE)::text",
        "(r.is_used IS TRUE)::text",
        f"CASE WHEN r.is_used THEN {_moment('r.used_date')} END",
        _CREATED,
    ),
    target=(
        "r.id::text",
        "r.organization_id::text",
        "r.voucher_id::text",
        "r.client_id::text",
        "r.code",
        "r.is_backup::text",
        "r.is_used::text",
        _utc("r.used_at"),
        _utc("r.created_at"),
    ),
    source_from="public.voucher_codes r",
    target_from="voucher_codes r",
)

_DATED = "coalesce(r.session_date, r.created_at, {began_at})"
_STARTS = _moment(_DATED)
_RESERVED = _moment(_DATED, "make_interval(secs => abs(r.id::numeric)::float8 / 1000000)")


def _word(column: str, known: str, otherwise: str) -> str:
    return f"CASE WHEN {column} ~ '^({known})$' THEN {column} ELSE '{otherwise}' END"


def _end(starts: str) -> str:
    return f"({starts}::timestamp + {_MINUTES} * interval '60 seconds')"


# Sessions that the conversion added have no row in version 1.
_COPIED_SESSIONS = """
    (SELECT s.* FROM sessions s WHERE NOT EXISTS (
        SELECT FROM upgrade_findings f
        WHERE f.table_name = 'sessions' AND f.rule = 'session_added' AND f.id = s.id)) r
"""

SESSIONS = Expectation(
    table="sessions",
    service="vouchers",
    source=(
        "r.id::text",
        "{organization}::text",
        "r.therapy_class_id::text",
        _STARTS,
        f"{_end(_STARTS)}::text",
        "{timezone}",
        "c.therapist_id::text",
        _word("r.status", "scheduled|completed|cancelled", "scheduled"),
        "r.notes",
        _CREATED,
        _UPDATED,
    ),
    target=(
        "r.id::text",
        "r.organization_id::text",
        "r.therapy_class_id::text",
        _utc("r.starts_at"),
        _utc("r.ends_at"),
        "r.timezone",
        "r.therapist_id::text",
        "r.status",
        "r.notes",
        _utc("r.created_at"),
        _utc("r.updated_at"),
    ),
    source_from="public.sessions r LEFT JOIN public.therapy_classes c ON c.id = r.therapy_class_id",
    target_from=_COPIED_SESSIONS,
)

# Whether version 1 had the session and cancelled it. Sessions and reservations whose dates were
# moved into the calendar never meet.
_IS_OFF = """
    coalesce((
        SELECT bool_and(x.status IS NOT DISTINCT FROM 'cancelled') FROM public.sessions x
        WHERE x.therapy_class_id = r.therapy_class_id AND x.session_date = r.session_date
        AND isfinite(x.session_date) AND date_part('year', x.session_date) BETWEEN 1000 AND 8999
    ), false)
"""
_STATE = f"""
    CASE coalesce(r.status, 'pending')
    WHEN 'cancelled' THEN 'cancelled'
    WHEN 'completed' THEN CASE WHEN r.client_id IS NULL THEN 'cancelled' ELSE 'attended' END
    WHEN 'confirmed' THEN CASE WHEN r.client_id IS NULL OR {_IS_OFF} THEN 'cancelled'
        WHEN {_end(_RESERVED)} > {{began_at}} THEN 'booked' ELSE 'attended' END
    ELSE CASE WHEN r.client_id IS NULL OR {_IS_OFF} THEN 'cancelled'
        WHEN {_RESERVED}::timestamp > {{began_at}} THEN 'held' ELSE 'cancelled' END
    END
"""

RESERVATIONS = Expectation(
    table="reservations",
    service="vouchers",
    source=(
        "r.id::text",
        "{organization}::text",
        "r.client_id::text",
        "r.therapy_class_id::text",
        _RESERVED,
        f"{_end(_RESERVED)}::text",
        "r.voucher_code_id::text",
        _STATE,
        f"CASE WHEN ({_STATE}) = 'held' THEN {_RESERVED} END",
        _CREATED,
        _UPDATED,
    ),
    target=(
        "r.id::text",
        "r.organization_id::text",
        "r.client_id::text",
        "r.therapy_class_id::text",
        _utc("r.starts_at"),
        _utc("r.ends_at"),
        "r.voucher_code_id::text",
        "r.status",
        _utc("r.held_until"),
        _utc("r.created_at"),
        _utc("r.updated_at"),
    ),
    source_from=(
        "public.reservations r LEFT JOIN public.therapy_classes c ON c.id = r.therapy_class_id"
    ),
    target_from="reservations r",
)

EXPECTATIONS = (USERS, THERAPY_CLASSES, VOUCHERS, VOUCHER_CODES, SESSIONS, RESERVATIONS)
