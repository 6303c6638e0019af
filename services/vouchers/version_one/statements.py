"""The statements of the conversion, in the order in which they run.

They read and change the rows of `tables`, and add to `upgrade_findings` what an operator must see.
`as_of` is the moment at which a session counts as past or not.
"""

INDEX = (
    "CREATE INDEX ON upgrade_sessions (therapy_class_id, starts_at)",
    "CREATE INDEX ON upgrade_reservations (session_id)",
    "ANALYZE upgrade_sessions",
    "ANALYZE upgrade_reservations",
)

CLASSES = (
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'therapy_classes', 'capacity_below_one', id,
        jsonb_build_object('was', capacity, 'is', 1)
    FROM therapy_classes WHERE capacity < 1 ON CONFLICT DO NOTHING
    """,
    "UPDATE therapy_classes SET capacity = 1 WHERE capacity < 1",
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'therapy_classes', 'duration_outside_a_day', id, jsonb_build_object(
        'was', duration_minutes, 'is', CASE WHEN duration_minutes < 1 THEN 60 ELSE 1440 END)
    FROM therapy_classes WHERE duration_minutes NOT BETWEEN 1 AND 1440 ON CONFLICT DO NOTHING
    """,
    """
    UPDATE therapy_classes
    SET duration_minutes = CASE WHEN duration_minutes < 1 THEN 60 ELSE 1440 END
    WHERE duration_minutes NOT BETWEEN 1 AND 1440
    """,
)

THERAPISTS = """
    INSERT INTO resources (organization_id, kind, user_id, buffer_before_minutes,
        buffer_after_minutes, is_active, created_at, updated_at, version)
    SELECT c.organization_id, 'therapist', c.therapist_id, 0, 0,
        coalesce(bool_or(u.is_active AND u.organization_id = c.organization_id
            AND u.role IN ('organization_owner', 'therapist', 'staff')), false),
        CAST(:as_of AS timestamptz), CAST(:as_of AS timestamptz), 1
    FROM therapy_classes c LEFT JOIN client_copies u ON u.id = c.therapist_id
    WHERE c.therapist_id IS NOT NULL AND (
        EXISTS (SELECT FROM upgrade_sessions s WHERE s.therapy_class_id = c.id)
        OR EXISTS (SELECT FROM upgrade_reservations r WHERE r.therapy_class_id = c.id))
    GROUP BY c.organization_id, c.therapist_id ORDER BY c.organization_id, c.therapist_id
    ON CONFLICT (organization_id, user_id) DO NOTHING
    RETURNING id, organization_id, user_id, is_active
"""

# A session that takes place is preferred to a cancelled one of the same class and moment.
MATCH = """
    UPDATE upgrade_reservations r SET session_id = s.id
    FROM (
        SELECT DISTINCT ON (organization_id, therapy_class_id, starts_at)
            organization_id, therapy_class_id, starts_at, id
        FROM upgrade_sessions WHERE therapy_class_id IS NOT NULL
        ORDER BY organization_id, therapy_class_id, starts_at,
            status IS NOT DISTINCT FROM 'cancelled', id
    ) s
    WHERE s.organization_id = r.organization_id AND s.therapy_class_id = r.therapy_class_id
    AND s.starts_at = r.starts_at
"""

HIGHEST_ID = """
    SELECT greatest(
        (SELECT coalesce(max(id), 0) FROM upgrade_sessions),
        (SELECT coalesce(max(id), 0) FROM sessions),
        (SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM sessions_id_seq)
    )
"""
# One session for each class and moment. Nothing shows that reservations without a class belong
# together, so each gets a session of its own.
ADD_SESSIONS = """
    INSERT INTO upgrade_sessions (id, organization_id, therapy_class_id, starts_at, created_at,
        updated_at, is_new, first_reservation_id)
    SELECT CAST(:highest AS bigint) + row_number() OVER (ORDER BY first_id), organization_id,
        therapy_class_id, starts_at, created_at, created_at, true, first_id
    FROM (
        SELECT organization_id, therapy_class_id, starts_at, min(id) AS first_id,
            min(created_at) AS created_at
        FROM upgrade_reservations WHERE session_id IS NULL
        GROUP BY organization_id, therapy_class_id, starts_at,
            CASE WHEN therapy_class_id IS NULL THEN id END
    ) missing
"""
CONTINUE_IDS = "SELECT setval('sessions_id_seq', CAST(:last AS bigint))"
MATCH_ADDED = """
    UPDATE upgrade_reservations r SET session_id = s.id FROM upgrade_sessions s
    WHERE r.session_id IS NULL AND s.is_new AND s.organization_id = r.organization_id
    AND s.starts_at = r.starts_at
    AND (s.therapy_class_id = r.therapy_class_id OR s.first_reservation_id = r.id)
"""

TIMES = """
    UPDATE upgrade_sessions s
    SET status = coalesce(s.status, 'scheduled'), timezone = coalesce(o.timezone, 'UTC'),
        ends_at = s.starts_at
            + coalesce(c.duration_minutes, 60)::double precision * interval '1 minute',
        therapist_id = c.therapist_id, resource_id = t.id,
        capacity = coalesce(c.capacity, 1)
    FROM upgrade_sessions x
        LEFT JOIN therapy_classes c
            ON c.organization_id = x.organization_id AND c.id = x.therapy_class_id
        LEFT JOIN resources t
            ON t.organization_id = c.organization_id AND t.user_id = c.therapist_id
        LEFT JOIN organization_copies o ON o.id = x.organization_id
    WHERE x.id = s.id
"""
INSTANTS = """
    SELECT id, starts_at, timezone FROM upgrade_sessions WHERE id > CAST(:after AS bigint)
    ORDER BY id LIMIT CAST(:size AS bigint)
"""
LOCAL_TIMES = """
    UPDATE upgrade_sessions s SET starts_local = clock.shown
    FROM unnest(CAST(:ids AS bigint[]), CAST(:times AS timestamp[])) AS clock (id, shown)
    WHERE s.id = clock.id
"""

STATES = """
    UPDATE upgrade_reservations r
    SET ends_at = s.ends_at, state = CASE
        WHEN r.client_id IS NULL OR r.status = 'cancelled' THEN 'cancelled'
        WHEN r.status = 'completed' THEN 'attended'
        WHEN s.status = 'cancelled' THEN 'cancelled'
        WHEN r.status = 'confirmed' AND s.ends_at > CAST(:as_of AS timestamptz) THEN 'booked'
        WHEN r.status = 'confirmed' THEN 'attended'
        WHEN r.starts_at > CAST(:as_of AS timestamptz) THEN 'held'
        ELSE 'cancelled' END
    FROM upgrade_sessions s WHERE s.id = r.session_id
"""
_FINDINGS_OF_STATES = (
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'sessions', 'session_added', id, jsonb_build_object(
        'therapy_class_id', therapy_class_id, 'starts_at', starts_at)
    FROM upgrade_sessions WHERE is_new ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'sessions', 'session_without_class', id,
        jsonb_build_object('duration_minutes', 60, 'capacity', 1)
    FROM upgrade_sessions WHERE therapy_class_id IS NULL ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'reservations', 'reservation_without_client', id,
        jsonb_build_object('was', status, 'is', 'cancelled')
    FROM upgrade_reservations
    WHERE client_id IS NULL AND status IS DISTINCT FROM 'cancelled' ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'reservations', 'session_cancelled', r.id,
        jsonb_build_object('was', r.status, 'is', 'cancelled', 'session_id', s.id)
    FROM upgrade_reservations r JOIN upgrade_sessions s ON s.id = r.session_id
    WHERE s.status = 'cancelled' AND r.client_id IS NOT NULL
    AND r.status IS DISTINCT FROM 'cancelled' AND r.status IS DISTINCT FROM 'completed'
    ON CONFLICT DO NOTHING
    """,
)

_SEATS = (
    """
    UPDATE upgrade_sessions s SET seats_taken = places.taken
    FROM (
        SELECT session_id, count(*) AS taken FROM upgrade_reservations
        WHERE state IN ('held', 'booked', 'attended') GROUP BY session_id
    ) places
    WHERE places.session_id = s.id
    """,
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'sessions', 'overbooked', id, jsonb_build_object('was', capacity, 'is', seats_taken)
    FROM upgrade_sessions WHERE seats_taken > capacity ON CONFLICT DO NOTHING
    """,
    "UPDATE upgrade_sessions SET capacity = seats_taken WHERE seats_taken > capacity",
    """
    UPDATE upgrade_sessions SET status = CASE WHEN seats_taken = 0 THEN 'cancelled'
        WHEN ends_at > CAST(:as_of AS timestamptz) THEN 'scheduled' ELSE 'completed' END
    WHERE is_new
    """,
)

# A settled reservation has the voucher of its code. A redemption belongs to one reservation.
_CODES = (
    """
    UPDATE upgrade_reservations r SET voucher_id = v.id
    FROM voucher_codes k JOIN vouchers v
        ON v.organization_id = k.organization_id AND v.id = k.voucher_id
    WHERE k.id = r.voucher_code_id AND k.organization_id = r.organization_id
    AND v.client_id = r.client_id AND r.state IN ('attended', 'cancelled')
    """,
    """
    UPDATE upgrade_reservations r SET redemption_id = link.redemption_id
    FROM (
        SELECT DISTINCT ON (d.id) d.id AS redemption_id, q.id
        FROM upgrade_reservations q JOIN redemptions d
            ON d.organization_id = q.organization_id AND d.voucher_id = q.voucher_id
            AND d.voucher_code_id = q.voucher_code_id
        WHERE q.state = 'attended' AND d.reversal_of IS NULL AND d.reservation_id IS NULL
        AND NOT EXISTS (SELECT FROM redemptions b WHERE b.reversal_of = d.id)
        ORDER BY d.id, q.status IS DISTINCT FROM 'completed', q.starts_at, q.id
    ) link
    WHERE link.id = r.id
    """,
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'reservations', 'code_used_twice', id, jsonb_build_object('code_id', voucher_code_id)
    FROM (
        SELECT r.id, r.voucher_code_id, row_number() OVER (PARTITION BY r.voucher_code_id
            ORDER BY r.redemption_id IS NULL, r.starts_at, r.id) AS place
        FROM upgrade_reservations r
            JOIN voucher_codes k ON k.id = r.voucher_code_id
            JOIN vouchers v ON v.id = k.voucher_id AND v.client_id = r.client_id
        WHERE r.state <> 'cancelled'
    ) named
    WHERE place > 1 ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'reservations', 'code_of_another_client', r.id,
        jsonb_build_object('code_id', r.voucher_code_id, 'voucher_id', k.voucher_id)
    FROM upgrade_reservations r
        JOIN voucher_codes k ON k.id = r.voucher_code_id
        LEFT JOIN vouchers v ON v.id = k.voucher_id
    WHERE r.client_id IS NOT NULL AND v.client_id IS DISTINCT FROM r.client_id
    ON CONFLICT DO NOTHING
    """,
)

_OVERLAPS_OF_CLIENTS = (
    """
    CREATE INDEX ON upgrade_reservations (client_id, starts_at) WHERE state IN ('held', 'booked')
    """,
    """
    UPDATE upgrade_reservations r SET may_overlap = true
    WHERE r.state IN ('held', 'booked') AND (
        EXISTS (
            SELECT FROM upgrade_reservations o
            WHERE o.state IN ('held', 'booked') AND o.id <> r.id AND o.client_id = r.client_id
            AND o.organization_id = r.organization_id
            AND o.starts_at < r.ends_at AND o.ends_at > r.starts_at)
        OR EXISTS (
            SELECT FROM reservations o
            WHERE o.status IN ('held', 'booked') AND o.client_id = r.client_id
            AND o.organization_id = r.organization_id
            AND o.starts_at < r.ends_at AND o.ends_at > r.starts_at)
    )
    """,
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'reservations', 'client_double_booked', id,
        jsonb_build_object('client_id', client_id, 'starts_at', starts_at, 'ends_at', ends_at)
    FROM upgrade_reservations WHERE may_overlap ON CONFLICT DO NOTHING
    """,
)

_OVERLAPS_OF_THERAPISTS = (
    """
    UPDATE upgrade_sessions s SET blocked = tstzrange(
        s.starts_at - t.buffer_before_minutes::double precision * interval '1 minute',
        s.ends_at + t.buffer_after_minutes::double precision * interval '1 minute')
    FROM resources t
    WHERE t.id = s.resource_id AND s.status = 'scheduled'
    AND s.ends_at > CAST(:as_of AS timestamptz)
    """,
    """
    CREATE INDEX ON upgrade_sessions
        USING gist (int8range(resource_id, resource_id, '[]'), blocked)
        WHERE blocked IS NOT NULL
    """,
    """
    UPDATE upgrade_sessions s SET is_shared = true
    WHERE s.blocked IS NOT NULL AND (
        EXISTS (
            SELECT FROM upgrade_sessions o
            WHERE o.blocked IS NOT NULL AND o.id <> s.id AND o.blocked && s.blocked
            AND int8range(o.resource_id, o.resource_id, '[]')
                && int8range(s.resource_id, s.resource_id, '[]'))
        OR EXISTS (
            SELECT FROM occupations o
            WHERE o.resource_id = s.resource_id AND o.organization_id = s.organization_id
            AND o.blocked && s.blocked)
    )
    """,
    """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'sessions', 'therapist_double_booked', id, jsonb_build_object(
        'therapist_id', therapist_id, 'starts_at', starts_at, 'ends_at', ends_at)
    FROM upgrade_sessions WHERE is_shared ON CONFLICT DO NOTHING
    """,
)

RULES = (
    STATES,
    *_FINDINGS_OF_STATES,
    *_SEATS,
    *_CODES,
    *_OVERLAPS_OF_CLIENTS,
    *_OVERLAPS_OF_THERAPISTS,
)
"""What follows when every session has its times and every reservation its session."""

CLIENTS = """
    SELECT DISTINCT client_id FROM upgrade_reservations
    WHERE state IN ('held', 'booked') AND client_id > CAST(:after AS bigint)
    ORDER BY client_id LIMIT CAST(:size AS bigint)
"""
OPEN_RESERVATIONS = """
    SELECT r.id, r.organization_id, r.client_id, r.therapy_class_id, r.starts_at,
        s.starts_local::date AS day, k.voucher_id AS code_voucher_id,
        coalesce(k.is_used AND v.client_id = r.client_id, false) AS is_code_used
    FROM upgrade_reservations r
        JOIN upgrade_sessions s ON s.id = r.session_id
        LEFT JOIN voucher_codes k
            ON k.id = r.voucher_code_id AND k.organization_id = r.organization_id
        LEFT JOIN vouchers v ON v.id = k.voucher_id
    WHERE r.state IN ('held', 'booked') AND r.client_id = ANY(CAST(:client_ids AS bigint[]))
"""
# Locked, because a process of the version before could redeem a session meanwhile.
PURSES = """
    SELECT id, organization_id, client_id, therapy_class_id, valid_until,
        total_sessions - used_sessions - refunded_sessions - booked_sessions AS bookable
    FROM vouchers
    WHERE client_id = ANY(CAST(:client_ids AS bigint[])) AND status = 'active'
    AND disputed_at IS NULL ORDER BY id FOR UPDATE
"""
FUND = """
    UPDATE upgrade_reservations r SET voucher_id = paid.voucher_id
    FROM unnest(CAST(:ids AS bigint[]), CAST(:voucher_ids AS bigint[])) AS paid (id, voucher_id)
    WHERE r.id = paid.id
"""
EARMARK = """
    UPDATE vouchers v SET booked_sessions = v.booked_sessions + booked.sessions
    FROM (
        SELECT voucher_id, count(*) AS sessions
        FROM unnest(CAST(:voucher_ids AS bigint[])) AS voucher_id GROUP BY voucher_id
    ) booked
    WHERE v.id = booked.voucher_id
"""
UNFUNDED = """
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'reservations',
        CASE WHEN k.is_used AND v.client_id = r.client_id THEN 'code_used_already'
            ELSE 'unfunded' END,
        r.id, jsonb_build_object('client_id', r.client_id, 'code_id', r.voucher_code_id)
    FROM upgrade_reservations r
        LEFT JOIN voucher_codes k ON k.id = r.voucher_code_id
        LEFT JOIN vouchers v ON v.id = k.voucher_id
    WHERE r.state IN ('held', 'booked') AND r.voucher_id IS NULL ON CONFLICT DO NOTHING
"""
