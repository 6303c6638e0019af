"""Version 1's classes, their sessions and reservations, copied with an organization's id.

Sessions and reservations are converted afterwards, in version 2's database: see
`services.vouchers.version_one`.
"""

from deploy.upgrade.rows.copy_step import (
    CREATED,
    OF_EVERY_TABLE,
    UPDATED,
    CopyStep,
    Finding,
    moment,
    not_one_of,
    outside_moments,
    taken_as,
)
from services.vouchers.version_one import tables

_DATED = "coalesce(r.session_date::timestamp, r.created_at::timestamp, {began_at})"
_SESSION_DATE = f"({moment(_DATED)}) AT TIME ZONE 'UTC'"

# A client's reservations of a class must differ in their dates.
_APART = "abs(r.id::bigint) * interval '1 microsecond'"
_RESERVED_DATE = f"({moment(_DATED, apart=_APART)}) AT TIME ZONE 'UTC'"

_SESSION_STATUSES = "'scheduled', 'completed', 'cancelled'"
_RESERVATION_STATUSES = f"{_SESSION_STATUSES.replace('scheduled', 'pending')}, 'confirmed'"


def _status(words: str) -> str:
    return f"CASE WHEN r.status IN ({words}) THEN r.status::text END"


def _findings(statuses: str, default: str) -> dict[str, Finding]:
    return {
        "date_unknown": taken_as("session_date", _DATED),
        "date_outside_the_calendar": outside_moments("session_date"),
        "status_unknown": not_one_of("status", statuses, f"'{default}'"),
        **OF_EVERY_TABLE,
    }


_NAME = "coalesce(r.name::text, 'Class ' || r.id)"
_CAPACITY = "greatest(coalesce(r.capacity, 1), 1)"
_DURATION = (
    "(CASE WHEN r.duration_minutes BETWEEN 1 AND 1440 THEN r.duration_minutes"
    " WHEN r.duration_minutes > 1440 THEN 1440 ELSE 60 END)"
)


def _changed(column: str, condition: str, value: str) -> Finding:
    detail = f"jsonb_build_object('was', r.{column}, 'is', {value})"
    return Finding(f"r.{column} {condition}", detail)


THERAPY_CLASSES = CopyStep(
    name="therapy_classes",
    service="vouchers",
    columns={
        "id": "r.id::bigint",
        "organization_id": "{organization}::bigint",
        "name": _NAME,
        "description": "r.description::text",
        "duration_minutes": f"{_DURATION}::bigint",
        "capacity": f"{_CAPACITY}::bigint",
        "therapist_id": "r.therapist_id::bigint",
        "is_active": "coalesce(r.is_active, true)",
        "created_at": CREATED,
        "updated_at": UPDATED,
        "version": "1::bigint",
    },
    read="public.therapy_classes r WHERE r.id BETWEEN $1 AND $2",
    findings={
        "name_unknown": taken_as("name", _NAME),
        "duration_unknown": taken_as("duration_minutes", "60"),
        "capacity_unknown": taken_as("capacity", "1"),
        "duration_outside_a_day": _changed("duration_minutes", "NOT BETWEEN 1 AND 1440", _DURATION),
        "capacity_below_one": _changed("capacity", "< 1", _CAPACITY),
        "is_active_unknown": taken_as("is_active", "true"),
        **OF_EVERY_TABLE,
    },
)

SESSIONS = CopyStep(
    name="sessions",
    service="vouchers",
    columns={
        "id": "r.id::bigint",
        "organization_id": "{organization}::bigint",
        "therapy_class_id": "r.therapy_class_id::bigint",
        "starts_at": _SESSION_DATE,
        "status": _status(_SESSION_STATUSES),
        "notes": "r.notes::text",
        "created_at": CREATED,
        "updated_at": UPDATED,
    },
    read="public.sessions r WHERE r.id BETWEEN $1 AND $2",
    findings=_findings(_SESSION_STATUSES, "scheduled"),
    staging=tables.SESSIONS,
)

RESERVATIONS = CopyStep(
    name="reservations",
    service="vouchers",
    columns={
        "id": "r.id::bigint",
        "organization_id": "{organization}::bigint",
        "client_id": "r.client_id::bigint",
        "therapy_class_id": "r.therapy_class_id::bigint",
        "starts_at": _RESERVED_DATE,
        "voucher_code_id": "r.voucher_code_id::bigint",
        "status": _status(_RESERVATION_STATUSES),
        "created_at": CREATED,
        "updated_at": UPDATED,
    },
    read="public.reservations r WHERE r.id BETWEEN $1 AND $2",
    findings=_findings(_RESERVATION_STATUSES, "pending"),
    staging=tables.RESERVATIONS,
)
