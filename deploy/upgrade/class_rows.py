"""Version 1's classes, their sessions and reservations: kept whole, with an organization."""

from deploy.upgrade.copy_step import CREATED, UNKNOWN_TIME, UPDATED, CopyStep, taken_as

_SESSION_DATE = "r.session_date::timestamp AT TIME ZONE 'UTC'"

THERAPY_CLASSES = CopyStep(
    name="therapy_classes",
    service="vouchers",
    columns={
        "id": "r.id::bigint",
        "organization_id": "{organization}::bigint",
        "name": "r.name::text",
        "description": "r.description::text",
        "duration_minutes": "r.duration_minutes::bigint",
        "capacity": "r.capacity::bigint",
        "therapist_id": "r.therapist_id::bigint",
        "is_active": "coalesce(r.is_active, true)",
        "created_at": CREATED,
        "updated_at": UPDATED,
    },
    read="public.therapy_classes r WHERE r.id BETWEEN $1 AND $2",
    findings={
        "is_active_unknown": taken_as("is_active", "true"),
        "created_at_unknown": UNKNOWN_TIME,
    },
)

SESSIONS = CopyStep(
    name="sessions",
    service="vouchers",
    columns={
        "id": "r.id::bigint",
        "organization_id": "{organization}::bigint",
        "therapy_class_id": "r.therapy_class_id::bigint",
        "session_date": _SESSION_DATE,
        "status": "r.status::text",
        "notes": "r.notes::text",
        "created_at": CREATED,
        "updated_at": UPDATED,
    },
    read="public.sessions r WHERE r.id BETWEEN $1 AND $2",
    findings={"created_at_unknown": UNKNOWN_TIME},
)

RESERVATIONS = CopyStep(
    name="reservations",
    service="vouchers",
    columns={
        "id": "r.id::bigint",
        "organization_id": "{organization}::bigint",
        "client_id": "r.client_id::bigint",
        "therapy_class_id": "r.therapy_class_id::bigint",
        "session_date": _SESSION_DATE,
        "voucher_code_id": "r.voucher_code_id::bigint",
        "status": "r.status::text",
        "created_at": CREATED,
        "updated_at": UPDATED,
    },
    read="public.reservations r WHERE r.id BETWEEN $1 AND $2",
    findings={"created_at_unknown": UNKNOWN_TIME},
)
