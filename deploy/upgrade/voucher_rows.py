"""Vouchers, their codes, and the ledger of sessions that version 1 only counted."""

from deploy.upgrade.copy_step import CREATED, UPDATED, CopyStep, taken_as, unknown_time

UNNAMED = "Voucher of version 1"
"""The name of a voucher that was for no class."""

_TOTAL = "greatest(s.total_sessions, 0)"
_USED = f"least(greatest(coalesce(s.used_sessions, 0), 0), {_TOTAL})"
_VOUCHERS = "upgrade_staging_vouchers"
_CODES = "upgrade_staging_voucher_codes"

VOUCHERS = CopyStep(
    name="vouchers",
    service="vouchers",
    table="vouchers",
    staging={
        "id": "bigint",
        "client_id": "bigint",
        "therapy_class_id": "bigint",
        "purchase_date": "date",
        "valid_until": "date",
        "total_sessions": "bigint",
        "used_sessions": "bigint",
        "is_active": "boolean",
        "spare_codes": "bigint",
        "used_spare_codes": "bigint",
        "used_codes": "bigint",
        "created_at": "timestamp",
        "updated_at": "timestamp",
    },
    extract="""
        SELECT v.id::bigint, v.client_id::bigint, v.therapy_class_id::bigint, v.purchase_date,
               v.valid_until, v.total_sessions::bigint, v.used_sessions::bigint, v.is_active,
               coalesce(c.spare, 0), coalesce(c.used_spare, 0), coalesce(c.used, 0),
               v.created_at::timestamp, v.updated_at::timestamp
        FROM public.vouchers v
        LEFT JOIN (
            SELECT voucher_id, count(*) FILTER (WHERE is_spare) AS spare,
                   count(*) FILTER (WHERE is_spare AND is_used) AS used_spare,
                   count(*) FILTER (WHERE is_used AND is_spare IS NOT TRUE) AS used
            FROM public.voucher_codes WHERE voucher_id BETWEEN $1 AND $2 GROUP BY voucher_id
        ) c ON c.voucher_id = v.id
        WHERE v.id BETWEEN $1 AND $2
    """,
    load=f"""
        INSERT INTO vouchers (id, organization_id, client_id, voucher_type_id,
            voucher_type_version, therapy_class_id, name, session_name, total_sessions,
            backup_sessions, session_duration_minutes, max_clients_per_session, booking_rules,
            used_sessions, used_backup_sessions, purchase_date, valid_from, valid_until, status,
            payment_status, created_at, updated_at, version)
        SELECT s.id, p.organization_id, s.client_id, t.id, t.version, s.therapy_class_id,
            coalesce(c.name, '{UNNAMED}'), c.name, {_TOTAL}, s.spare_codes, c.duration_minutes,
            c.capacity, '{{}}', {_USED}, s.used_spare_codes,
            s.purchase_date, s.purchase_date, s.valid_until,
            CASE WHEN NOT coalesce(s.is_active, true) OR s.client_id IS NULL THEN 'cancelled'
                 WHEN s.valid_until < p.today THEN 'expired'
                 WHEN {_USED} >= {_TOTAL} THEN 'completed'
                 ELSE 'active' END,
            'paid', {CREATED}, {UPDATED}, 1
        FROM {_VOUCHERS} s CROSS JOIN upgrade_plan p
        LEFT JOIN therapy_classes c ON c.id = s.therapy_class_id
        LEFT JOIN LATERAL (
            SELECT kind.id, kind.version
            FROM upgrade_voucher_types ours JOIN voucher_types kind USING (id)
            WHERE kind.total_sessions = s.total_sessions
              AND (kind.max_clients_per_session > 1) = (c.capacity > 1)
            ORDER BY kind.id LIMIT 1
        ) t ON true
    """,  # noqa: S608
    findings={
        "without_client": f"""
            jsonb_build_object('status', 'cancelled')
            FROM {_VOUCHERS} s WHERE s.client_id IS NULL
        """,
        "without_class": f"""
            jsonb_build_object('name', '{UNNAMED}')
            FROM {_VOUCHERS} s WHERE s.therapy_class_id IS NULL
        """,
        "used_sessions_unknown": taken_as(_VOUCHERS, "used_sessions", "0"),
        "is_active_unknown": taken_as(_VOUCHERS, "is_active", "true"),
        "created_at_unknown": unknown_time(_VOUCHERS),
        "sessions_below_zero": f"""
            jsonb_build_object('was', jsonb_build_array(s.used_sessions, s.total_sessions),
                               'is', jsonb_build_array({_USED}, {_TOTAL}))
            FROM {_VOUCHERS} s WHERE s.used_sessions < 0 OR s.total_sessions < 0
        """,
        "more_codes_used_than_sessions": f"""
            jsonb_build_object('used_codes', s.used_codes, 'used_sessions', {_USED})
            FROM {_VOUCHERS} s WHERE s.used_codes > {_USED}
        """,
    },
)

VOUCHER_CODES = CopyStep(
    name="voucher_codes",
    service="vouchers",
    table="voucher_codes",
    staging={
        "id": "bigint",
        "voucher_id": "bigint",
        "client_id": "bigint",
        "code": "text",
        "is_spare": "boolean",
        "is_used": "boolean",
        "used_date": "timestamp",
        "created_at": "timestamp",
        "updated_at": "timestamp",
    },
    extract="""
        SELECT c.id::bigint, c.voucher_id::bigint, v.client_id::bigint, c.code::text, c.is_spare,
               c.is_used, c.used_date::timestamp, c.created_at::timestamp, c.updated_at::timestamp
        FROM public.voucher_codes c LEFT JOIN public.vouchers v ON v.id = c.voucher_id
        WHERE c.id BETWEEN $1 AND $2
    """,
    load=f"""
        INSERT INTO voucher_codes (id, organization_id, voucher_id, client_id, code, is_backup,
            is_used, used_at, created_at)
        SELECT s.id, p.organization_id, s.voucher_id, s.client_id, s.code,
               coalesce(s.is_spare, false), coalesce(s.is_used, false),
               CASE WHEN s.is_used THEN s.used_date AT TIME ZONE 'UTC' END, {CREATED}
        FROM {_CODES} s CROSS JOIN upgrade_plan p
    """,  # noqa: S608
    findings={
        "without_voucher": f"""
            jsonb_build_object('code', s.code) FROM {_CODES} s WHERE s.voucher_id IS NULL
        """,
        "is_spare_unknown": taken_as(_CODES, "is_spare", "false"),
        "is_used_unknown": taken_as(_CODES, "is_used", "false"),
        "created_at_unknown": unknown_time(_CODES),
        "used_date_of_an_unused_code": f"""
            jsonb_build_object('was', s.used_date, 'is', NULL)
            FROM {_CODES} s WHERE s.is_used IS NOT TRUE AND s.used_date IS NOT NULL
        """,
        "used_on_an_unknown_day": f"""
            jsonb_build_object('used_date', NULL)
            FROM {_CODES} s WHERE s.is_used AND s.used_date IS NULL
        """,
    },
)

# One row for each session that version 1 counted as used. The nth used code of a voucher stands
# for its nth session; a session without a code, or one used on an unknown day, is booked on the
# day of purchase. Vouchers from $1 to $2; $3 is the last id that was given before this chunk.
REDEMPTIONS = """
    WITH used_code AS (
        SELECT c.id, c.voucher_id, c.is_backup, c.used_at, row_number() OVER (
            PARTITION BY c.voucher_id, c.is_backup ORDER BY c.used_at NULLS LAST, c.id) AS nth
        FROM voucher_codes c JOIN upgrade_plan p ON p.organization_id = c.organization_id
        WHERE c.voucher_id BETWEEN $1 AND $2 AND c.is_used
    ), spent AS (
        SELECT v.id AS voucher_id, false AS is_backup, nth
        FROM vouchers v, generate_series(1, v.used_sessions) AS nth WHERE v.id BETWEEN $1 AND $2
        UNION ALL
        SELECT v.id, true, nth
        FROM vouchers v, generate_series(1, v.used_backup_sessions) AS nth
        WHERE v.id BETWEEN $1 AND $2
    )
    INSERT INTO redemptions (id, organization_id, voucher_id, client_id, voucher_code_id, kind,
        session_date, created_at, updated_at, version)
    SELECT $3 + row_number() OVER (ORDER BY v.id, spent.is_backup, spent.nth),
        v.organization_id, v.id, v.client_id, c.id,
        CASE WHEN spent.is_backup THEN 'backup' ELSE 'regular' END,
        coalesce((c.used_at AT TIME ZONE p.timezone)::date, v.purchase_date),
        coalesce(c.used_at, v.created_at), coalesce(c.used_at, v.created_at), 1
    FROM spent JOIN vouchers v ON v.id = spent.voucher_id CROSS JOIN upgrade_plan p
    LEFT JOIN used_code c USING (voucher_id, is_backup, nth)
"""

# As many rows as REDEMPTIONS will make, told by version 1.
SESSIONS_SPENT = """
    SELECT (SELECT coalesce(sum(least(greatest(coalesce(used_sessions, 0), 0),
                                      greatest(total_sessions, 0))), 0)::bigint
            FROM public.vouchers)
         + (SELECT count(*) FROM public.voucher_codes
            WHERE is_spare AND is_used AND voucher_id IS NOT NULL)
"""

ORGANIZATION_COPY = """
    INSERT INTO organization_copies (id, version, name, slug, address, phone, email, tax_id,
                                     logo_url, timezone, currency, is_active)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING
"""
