"""The tables in which rows of version 1 wait for their conversion, and how they leave them.

The upgrade copies into them, and migration 0013 takes the rows that an earlier upgrade wrote. They
exist for the conversion only. `status` is version 1's, and null where it had none.
"""

SESSIONS = "upgrade_sessions"
RESERVATIONS = "upgrade_reservations"

CREATE_FINDINGS = """
    CREATE TABLE IF NOT EXISTS upgrade_findings (
        table_name text,
        rule text,
        id bigint,
        detail jsonb NOT NULL,
        PRIMARY KEY (table_name, rule, id)
    )
"""
"""The table of the upgrade. It is missing if an operator has dropped it."""

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS upgrade_sessions (
        id bigint PRIMARY KEY,
        organization_id bigint NOT NULL,
        therapy_class_id bigint,
        starts_at timestamptz NOT NULL,
        status text,
        notes text,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        is_new boolean NOT NULL DEFAULT false,
        first_reservation_id bigint,
        ends_at timestamptz,
        timezone text,
        starts_local timestamp,
        therapist_id bigint,
        resource_id bigint,
        capacity bigint,
        seats_taken bigint NOT NULL DEFAULT 0,
        blocked tstzrange,
        is_shared boolean NOT NULL DEFAULT false
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS upgrade_reservations (
        id bigint PRIMARY KEY,
        organization_id bigint NOT NULL,
        client_id bigint,
        therapy_class_id bigint,
        starts_at timestamptz NOT NULL,
        voucher_code_id bigint,
        status text,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        session_id bigint,
        ends_at timestamptz,
        state text,
        voucher_id bigint,
        redemption_id bigint,
        may_overlap boolean NOT NULL DEFAULT false
    )
    """,
    CREATE_FINDINGS,
)

DROP = "DROP TABLE IF EXISTS upgrade_sessions, upgrade_reservations"

EXIST_IN_PLACE = """
    SELECT EXISTS (SELECT FROM sessions WHERE ends_at IS NULL)
        OR EXISTS (SELECT FROM reservations WHERE session_id IS NULL)
        OR EXISTS (SELECT FROM therapy_classes
                   WHERE capacity < 1 OR duration_minutes NOT BETWEEN 1 AND 1440)
"""
TAKE = (
    """
    INSERT INTO upgrade_sessions (id, organization_id, therapy_class_id, starts_at, status, notes,
        created_at, updated_at)
    SELECT id, organization_id, therapy_class_id, starts_at, status, notes, created_at, updated_at
    FROM sessions WHERE ends_at IS NULL
    """,
    """
    INSERT INTO upgrade_reservations (id, organization_id, client_id, therapy_class_id, starts_at,
        voucher_code_id, status, created_at, updated_at)
    SELECT id, organization_id, client_id, therapy_class_id, starts_at, voucher_code_id, status,
        created_at, updated_at
    FROM reservations WHERE session_id IS NULL
    """,
)
"""Rows that an earlier upgrade wrote: only they have neither an end nor a session."""

END_OF_BATCH = {
    SESSIONS: """
        SELECT max(id) FROM (
            SELECT id FROM upgrade_sessions WHERE id > CAST(:after AS bigint) ORDER BY id
            LIMIT CAST(:size AS bigint)
        ) batch
    """,
    RESERVATIONS: """
        SELECT max(id) FROM (
            SELECT id FROM upgrade_reservations WHERE id > CAST(:after AS bigint) ORDER BY id
            LIMIT CAST(:size AS bigint)
        ) batch
    """,
}

# `in_place`: the row exists already, except for a session that the conversion adds.
WRITE = {
    SESSIONS: (
        """
        INSERT INTO sessions (id, organization_id, therapy_class_id, starts_at, ends_at, timezone,
            starts_local, therapist_id, resource_ids, capacity, seats_taken, on_demand, status,
            notes, created_at, updated_at, version)
        SELECT id, organization_id, therapy_class_id, starts_at, ends_at, timezone, starts_local,
            therapist_id, array_remove(ARRAY[resource_id], NULL), capacity, seats_taken, false,
            status, notes, created_at, updated_at, 1
        FROM upgrade_sessions
        WHERE id > CAST(:after AS bigint) AND id <= CAST(:last AS bigint)
        AND (is_new OR NOT CAST(:in_place AS boolean))
        """,
        """
        UPDATE sessions SET ends_at = s.ends_at, timezone = s.timezone,
            starts_local = s.starts_local, therapist_id = s.therapist_id,
            resource_ids = array_remove(ARRAY[s.resource_id], NULL), capacity = s.capacity,
            seats_taken = s.seats_taken, status = s.status
        FROM upgrade_sessions s
        WHERE s.id > CAST(:after AS bigint) AND s.id <= CAST(:last AS bigint)
        AND sessions.id = s.id AND NOT s.is_new AND CAST(:in_place AS boolean)
        """,
    ),
    RESERVATIONS: (
        """
        INSERT INTO reservations (id, organization_id, client_id, voucher_id, session_id, starts_at,
            ends_at, status, held_for, held_until, redemption_id, may_overlap, settled_at,
            therapy_class_id, voucher_code_id, created_at, updated_at, version)
        SELECT id, organization_id, client_id, voucher_id, session_id, starts_at, ends_at, state,
            CASE WHEN state = 'held' THEN 'approval' END,
            CASE WHEN state = 'held' THEN starts_at END, redemption_id, may_overlap,
            CASE WHEN state = 'attended' THEN updated_at END, therapy_class_id, voucher_code_id,
            created_at, updated_at, 1
        FROM upgrade_reservations
        WHERE id > CAST(:after AS bigint) AND id <= CAST(:last AS bigint)
        AND NOT CAST(:in_place AS boolean)
        """,
        """
        UPDATE reservations SET voucher_id = r.voucher_id, session_id = r.session_id,
            ends_at = r.ends_at, status = r.state,
            held_for = CASE WHEN r.state = 'held' THEN 'approval' END,
            held_until = CASE WHEN r.state = 'held' THEN r.starts_at END,
            redemption_id = r.redemption_id, may_overlap = r.may_overlap,
            settled_at = CASE WHEN r.state = 'attended' THEN r.updated_at END
        FROM upgrade_reservations r
        WHERE r.id > CAST(:after AS bigint) AND r.id <= CAST(:last AS bigint)
        AND reservations.id = r.id AND CAST(:in_place AS boolean)
        """,
    ),
}

LINK = """
    UPDATE redemptions SET reservation_id = r.id FROM upgrade_reservations r
    WHERE redemptions.id = r.redemption_id
"""
OCCUPY = """
    INSERT INTO occupations (organization_id, session_id, resource_id, blocked, enforced)
    SELECT organization_id, id, resource_id, blocked, NOT is_shared FROM upgrade_sessions
    WHERE blocked IS NOT NULL
"""
