"""Version 1's classes, their sessions and reservations: kept whole, with an organization."""

from deploy.upgrade.copy_step import CREATED, UPDATED, CopyStep, taken_as, unknown_time

_TIMES = "created_at::timestamp, updated_at::timestamp"
_TIME_COLUMNS = {"created_at": "timestamp", "updated_at": "timestamp"}

THERAPY_CLASSES = CopyStep(
    name="therapy_classes",
    service="vouchers",
    table="therapy_classes",
    staging={
        "id": "bigint",
        "name": "text",
        "description": "text",
        "duration_minutes": "bigint",
        "capacity": "bigint",
        "therapist_id": "bigint",
        "is_active": "boolean",
        **_TIME_COLUMNS,
    },
    extract=f"""
        SELECT id::bigint, name::text, description::text, duration_minutes::bigint,
               capacity::bigint, therapist_id::bigint, is_active, {_TIMES}
        FROM public.therapy_classes WHERE id BETWEEN $1 AND $2
    """,  # noqa: S608
    load=f"""
        INSERT INTO therapy_classes (id, organization_id, name, description, duration_minutes,
            capacity, therapist_id, is_active, created_at, updated_at)
        SELECT s.id, p.organization_id, s.name, s.description, s.duration_minutes, s.capacity,
               s.therapist_id, coalesce(s.is_active, true), {CREATED}, {UPDATED}
        FROM upgrade_staging_therapy_classes s CROSS JOIN upgrade_plan p
    """,  # noqa: S608
    findings={
        "is_active_unknown": taken_as("upgrade_staging_therapy_classes", "is_active", "true"),
        "created_at_unknown": unknown_time("upgrade_staging_therapy_classes"),
    },
)

SESSIONS = CopyStep(
    name="sessions",
    service="vouchers",
    table="sessions",
    staging={
        "id": "bigint",
        "therapy_class_id": "bigint",
        "session_date": "timestamp",
        "status": "text",
        "notes": "text",
        **_TIME_COLUMNS,
    },
    extract=f"""
        SELECT id::bigint, therapy_class_id::bigint, session_date::timestamp, status::text,
               notes::text, {_TIMES}
        FROM public.sessions WHERE id BETWEEN $1 AND $2
    """,  # noqa: S608
    load=f"""
        INSERT INTO sessions (id, organization_id, therapy_class_id, session_date, status, notes,
            created_at, updated_at)
        SELECT s.id, p.organization_id, s.therapy_class_id, s.session_date AT TIME ZONE 'UTC',
               s.status, s.notes, {CREATED}, {UPDATED}
        FROM upgrade_staging_sessions s CROSS JOIN upgrade_plan p
    """,  # noqa: S608
    findings={"created_at_unknown": unknown_time("upgrade_staging_sessions")},
)

RESERVATIONS = CopyStep(
    name="reservations",
    service="vouchers",
    table="reservations",
    staging={
        "id": "bigint",
        "client_id": "bigint",
        "therapy_class_id": "bigint",
        "session_date": "timestamp",
        "voucher_code_id": "bigint",
        "status": "text",
        **_TIME_COLUMNS,
    },
    extract=f"""
        SELECT id::bigint, client_id::bigint, therapy_class_id::bigint, session_date::timestamp,
               voucher_code_id::bigint, status::text, {_TIMES}
        FROM public.reservations WHERE id BETWEEN $1 AND $2
    """,  # noqa: S608
    load=f"""
        INSERT INTO reservations (id, organization_id, client_id, therapy_class_id, session_date,
            voucher_code_id, status, created_at, updated_at)
        SELECT s.id, p.organization_id, s.client_id, s.therapy_class_id,
               s.session_date AT TIME ZONE 'UTC', s.voucher_code_id, s.status, {CREATED}, {UPDATED}
        FROM upgrade_staging_reservations s CROSS JOIN upgrade_plan p
    """,  # noqa: S608
    findings={"created_at_unknown": unknown_time("upgrade_staging_reservations")},
)
