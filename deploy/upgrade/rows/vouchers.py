"""Vouchers, their codes, and the ledger of used sessions, which version 1 only counted."""

from deploy.upgrade.rows.copy_step import (
    CREATED,
    OF_EVERY_TABLE,
    UPDATED,
    CopyStep,
    Finding,
    day,
    moment,
    outside_days,
    outside_moments,
    taken_as,
)

UNNAMED = "Voucher of version 1"
"""The name of a voucher without a class."""

_TOTAL = "greatest(r.total_sessions, 0)"
_USED = f"least(greatest(coalesce(r.used_sessions, 0), 0), {_TOTAL})"
_PURCHASED = day("coalesce(r.purchase_date::date, r.created_at::date, r.updated_at::date, {today})")

VOUCHERS = CopyStep(
    name="vouchers",
    service="vouchers",
    columns={
        "id": "r.id::bigint",
        "organization_id": "{organization}::bigint",
        "client_id": "r.client_id::bigint",
        "voucher_type_id": "t.id",
        "voucher_type_version": "t.version",
        "therapy_class_id": "r.therapy_class_id::bigint",
        "name": f"coalesce(c.name::text, '{UNNAMED}')",
        "session_name": "c.name::text",
        "total_sessions": f"{_TOTAL}::bigint",
        "backup_sessions": "coalesce(k.spare, 0)::bigint",
        "session_duration_minutes": "c.duration_minutes::bigint",
        "max_clients_per_session": "c.capacity::bigint",
        "booking_rules": "jsonb_build_object()",
        "used_sessions": f"{_USED}::bigint",
        "used_backup_sessions": "coalesce(k.used_spare, 0)::bigint",
        "purchase_date": _PURCHASED,
        "valid_from": _PURCHASED,
        "valid_until": day("r.valid_until"),
        "status": (
            "CASE WHEN NOT coalesce(r.is_active, true) OR r.client_id IS NULL"
            " OR r.valid_until IS NULL THEN 'cancelled'"
            " WHEN r.valid_until < {today} THEN 'expired'"
            f" WHEN {_USED} >= {_TOTAL} THEN 'completed' ELSE 'active' END"
        ),
        "payment_status": "'paid'::text",
        "created_at": CREATED,
        "updated_at": UPDATED,
        "version": "1::bigint",
    },
    read="""
        public.vouchers r LEFT JOIN public.therapy_classes c ON c.id = r.therapy_class_id
        LEFT JOIN (
            SELECT voucher_id, count(*) AS spare, count(*) FILTER (WHERE is_used) AS used_spare
            FROM public.voucher_codes WHERE is_spare AND voucher_id BETWEEN $1 AND $2
            GROUP BY voucher_id
        ) k ON k.voucher_id = r.id
        LEFT JOIN {voucher_types} AS t (id, version, total_sessions, in_group)
            ON t.total_sessions = r.total_sessions AND t.in_group = (c.capacity > 1)
        WHERE r.id BETWEEN $1 AND $2
    """,
    found_in="""
        public.vouchers r LEFT JOIN (
            SELECT voucher_id, count(*) AS used FROM public.voucher_codes
            WHERE is_used AND is_spare IS NOT TRUE GROUP BY voucher_id
        ) k ON k.voucher_id = r.id
    """,
    findings={
        "without_client": Finding(
            "r.client_id IS NULL", "jsonb_build_object('status', 'cancelled')"
        ),
        "without_class": Finding(
            "r.therapy_class_id IS NULL", f"jsonb_build_object('name', '{UNNAMED}')"
        ),
        "used_sessions_unknown": taken_as("used_sessions", "0"),
        "is_active_unknown": taken_as("is_active", "true"),
        "purchase_date_unknown": taken_as("purchase_date", _PURCHASED),
        "last_day_unknown": Finding(
            "r.valid_until IS NULL", "jsonb_build_object('status', 'cancelled')"
        ),
        "total_sessions_unknown": taken_as("total_sessions", "0"),
        "more_used_than_sold": Finding(
            f"r.used_sessions > {_TOTAL}",
            f"jsonb_build_object('was', r.used_sessions, 'is', {_USED})",
        ),
        "day_outside_the_calendar": outside_days("purchase_date", "valid_until"),
        **OF_EVERY_TABLE,
        "sessions_below_zero": Finding(
            "r.used_sessions < 0 OR r.total_sessions < 0",
            "jsonb_build_object('was', jsonb_build_array(r.used_sessions, r.total_sessions),"
            f" 'is', jsonb_build_array({_USED}, {_TOTAL}))",
        ),
        "more_codes_used_than_sessions": Finding(
            f"k.used > {_USED}",
            f"jsonb_build_object('used_codes', k.used, 'used_sessions', {_USED})",
        ),
    },
)

_CODE = "coalesce(r.code::text, 'WITHOUT-CODE-' || r.id)"
_USED_AT = moment("r.used_date::timestamp")

# The codes of a chunk belong to vouchers of about the same time. Without these bounds the server
# would read all vouchers for every chunk. `+ 0` makes it scan the chunk; with an index on
# voucher_id it would scan all codes.
VOUCHER_CODES = CopyStep(
    name="voucher_codes",
    service="vouchers",
    columns={
        "id": "r.id::bigint",
        "organization_id": "{organization}::bigint",
        "voucher_id": "r.voucher_id::bigint",
        "client_id": "v.client_id::bigint",
        "code": _CODE,
        "is_backup": "coalesce(r.is_spare, false)",
        "is_used": "coalesce(r.is_used, false)",
        "used_at": f"CASE WHEN r.is_used THEN ({_USED_AT}) AT TIME ZONE 'UTC' END",
        "created_at": CREATED,
    },
    read="""
        public.voucher_codes r LEFT JOIN (
            SELECT id, client_id FROM public.vouchers WHERE id BETWEEN
                (SELECT min(voucher_id + 0) FROM public.voucher_codes WHERE id BETWEEN $1 AND $2)
                AND
                (SELECT max(voucher_id + 0) FROM public.voucher_codes WHERE id BETWEEN $1 AND $2)
        ) v ON v.id = r.voucher_id
        WHERE r.id BETWEEN $1 AND $2
    """,
    findings={
        "without_voucher": Finding("r.voucher_id IS NULL", "jsonb_build_object('code', r.code)"),
        "is_spare_unknown": taken_as("is_spare", "false"),
        "is_used_unknown": taken_as("is_used", "false"),
        "code_unknown": taken_as("code", _CODE),
        "use_outside_the_calendar": outside_moments("used_date"),
        **OF_EVERY_TABLE,
        "used_date_of_an_unused_code": Finding(
            "r.is_used IS NOT TRUE AND r.used_date IS NOT NULL",
            "jsonb_build_object('was', r.used_date, 'is', NULL)",
        ),
        "used_on_an_unknown_day": Finding(
            "r.is_used AND r.used_date IS NULL", "jsonb_build_object('used_date', NULL)"
        ),
    },
)

_OF_VOUCHER = f"r.id, r.client_id, {_PURCHASED} AS purchase_date, r.created_at, r.updated_at"

# One row for each session that version 1 counted as used. The nth used code of a voucher is its nth
# session. A session without a code, or with an unknown day, is dated on the day of purchase. A used
# spare code is a used backup session. Sessions without a code are generated only for vouchers that
# have some: the server estimates a thousand for each voucher, and would join them on disk.
REDEMPTIONS = CopyStep(
    name="redemptions",
    service="vouchers",
    counted="vouchers",
    columns={
        "id": "{written}::bigint + row_number() OVER (ORDER BY r.id, r.is_backup, r.nth)",
        "organization_id": "{organization}::bigint",
        "voucher_id": "r.id::bigint",
        "client_id": "r.client_id::bigint",
        "voucher_code_id": "r.code_id",
        "kind": "CASE WHEN r.is_backup THEN 'backup' ELSE 'regular' END",
        "session_date": "coalesce((r.used_at AT TIME ZONE {timezone})::date, r.purchase_date)",
        "created_at": f"coalesce(r.used_at, {CREATED})",
        "updated_at": f"coalesce(r.used_at, {CREATED})",
        "version": "1::bigint",
    },
    read=f"""
        (
            WITH used AS MATERIALIZED (
                SELECT c.id::bigint, c.voucher_id, coalesce(c.is_spare, false) AS is_backup,
                    ({moment("c.used_date::timestamp")}) AT TIME ZONE 'UTC' AS used_at,
                    row_number() OVER (
                        PARTITION BY c.voucher_id, coalesce(c.is_spare, false)
                        ORDER BY c.used_date NULLS LAST, c.id) AS nth
                FROM public.voucher_codes c
                WHERE c.is_used AND c.voucher_id BETWEEN $1 AND $2
            )
            SELECT {_OF_VOUCHER}, u.is_backup, u.nth, u.id AS code_id, u.used_at
            FROM public.vouchers r JOIN used u ON u.voucher_id = r.id
            WHERE r.id BETWEEN $1 AND $2 AND (u.is_backup OR u.nth <= {_USED})
            UNION ALL
            SELECT {_OF_VOUCHER}, false, n, NULL, NULL
            FROM public.vouchers r LEFT JOIN (
                SELECT voucher_id, count(*) AS codes FROM used WHERE NOT is_backup
                GROUP BY voucher_id
            ) k ON k.voucher_id = r.id
            CROSS JOIN LATERAL generate_series(coalesce(k.codes, 0) + 1, {_USED}) AS n
            WHERE r.id BETWEEN $1 AND $2 AND {_USED} > coalesce(k.codes, 0)
        ) r
    """,  # noqa: S608
)

# The number of rows that the ledger will have.
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
