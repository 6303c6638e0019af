"""Organizations whose therapists have thousands of bookings, written by statements."""

from deploy.proof.bench.environment import BenchDatabase
from deploy.proof.bench.vouchers_service import CLIENT, ORGANIZATION, VOUCHER_TYPE

THERAPISTS = 10
"""How many therapists each organization has. The first one has the resource `FIRST_RESOURCE`."""
BOOKINGS = 5_000
"""How many bookings each therapist has: eight a day, up to 60 days ahead."""
FIRST_RESOURCE, FIRST_THERAPIST = 100_001, 200_001
BOOKERS = 400
"""How many clients have a voucher, with which nothing is booked yet."""
FIRST_BOOKER = 300_001

_ORGANIZATIONS = """
INSERT INTO organization_copies (id, version, name, slug, timezone, currency, is_active)
SELECT $1::bigint + o, 1, 'Bench ' || o, 'bench-' || o, 'Europe/Warsaw', 'EUR', true
FROM generate_series(0, $2::bigint - 1) o
"""
_CLIENTS = """
INSERT INTO client_copies (id, version, name, email, role, organization_id, is_active)
SELECT n, 1, 'Client ' || n, 'client-' || n || '@example.com', 'client', $1::bigint, true
FROM (SELECT $2::bigint UNION SELECT $3::bigint + k FROM generate_series(0, $4::bigint - 1) k) c (n)
"""
_STAFF = """
INSERT INTO client_copies (id, version, name, email, role, organization_id, is_active)
SELECT user_id, 1, 'Therapist ' || user_id, 'therapist-' || user_id || '@example.com',
    'therapist', organization_id, true
FROM resources
"""
_TYPE = """
INSERT INTO voucher_types (id, organization_id, name, session_name, total_sessions,
    backup_sessions, session_duration_minutes, max_clients_per_session, frequency, price, currency,
    validity_days, booking_rules, is_active, created_at, updated_at, version)
VALUES ($1, $2, 'Twenty sessions', 'Individual therapy', 20, 2, 60, 1, 'daily', 800, 'EUR', 365,
    '{}', true, now(), now(), 1)
"""
_VOUCHERS = """
INSERT INTO vouchers (organization_id, client_id, voucher_type_id, voucher_type_version, name,
    session_name, total_sessions, backup_sessions, session_duration_minutes,
    max_clients_per_session, frequency, price, currency, validity_days, booking_rules,
    booking_policy, used_sessions, used_backup_sessions, purchase_date, valid_from, valid_until,
    status, payment_method, payment_status, payment_amount, payment_date, invoice_number,
    created_at, updated_at, version)
SELECT t.organization_id, c.id, t.id, 1, t.name, t.session_name, t.total_sessions,
    t.backup_sessions, t.session_duration_minutes, t.max_clients_per_session, t.frequency, t.price,
    t.currency, t.validity_days, t.booking_rules, '{"opens_days": 365}', 0, 0, current_date,
    current_date, current_date + 364, 'active', 'credit_card', 'paid', t.price, now(),
    'BENCH-' || c.id, now(), now(), 2
FROM voucher_types t, client_copies c WHERE c.role = 'client' ORDER BY c.id
"""
_RESOURCES = """
INSERT INTO resources (id, organization_id, kind, user_id, buffer_before_minutes,
    buffer_after_minutes, is_active, created_at, updated_at, version)
SELECT $1::bigint + t, $2::bigint + t / $3::bigint, 'therapist', $4::bigint + t, 0, 0, true, now(),
    now(), 1
FROM generate_series(0, $3::bigint * $5::bigint - 1) t
"""
_HOURS = """
INSERT INTO working_hours (organization_id, resource_id, weekday, start_minute, end_minute)
SELECT organization_id, id, weekday, 8 * 60, 20 * 60 FROM resources, generate_series(1, 7) weekday
"""
# Eight sessions a day from 8 on, the last of them 60 days ahead; from 16 to 20 everything is free.
_SESSIONS = """
INSERT INTO sessions (organization_id, starts_at, ends_at, timezone, starts_local, therapist_id,
    resource_ids, capacity, seats_taken, on_demand, status, created_at, updated_at, version)
SELECT r.organization_id, t.starts_at, t.starts_at + interval '1 hour', 'Europe/Warsaw',
    t.starts_at AT TIME ZONE 'Europe/Warsaw', r.user_id, ARRAY[r.id], 1, 1, true, 'scheduled',
    now(), now(), 1
FROM resources r, LATERAL (
    SELECT (current_date + (60 - n / 8) + make_time(8 + n % 8, 0, 0)) AT TIME ZONE 'Europe/Warsaw'
        AS starts_at
    FROM generate_series(0, $1::int - 1) n
) t
"""
_RESERVATIONS = """
INSERT INTO reservations (organization_id, client_id, session_id, starts_at, ends_at, status,
    created_at, updated_at, version)
SELECT organization_id, 400000 + id % 1000, id, starts_at, ends_at,
    CASE WHEN ends_at > now() THEN 'booked' ELSE 'attended' END, now(), now(), 1
FROM sessions
"""
_OCCUPATIONS = """
INSERT INTO occupations (organization_id, session_id, resource_id, blocked)
SELECT organization_id, id, resource_ids[1], tstzrange(starts_at, ends_at) FROM sessions
WHERE ends_at > now()
"""

_IS_OF_TODAY = """
SELECT (max(starts_at) AT TIME ZONE 'Europe/Warsaw')::date = current_date + 60 FROM sessions
WHERE starts_at < now() + interval '62 days'
"""
_EMPTY = """
TRUNCATE organization_copies, client_copies, voucher_types, vouchers, voucher_codes, resources,
    working_hours, sessions, reservations, occupations, reminders, calendar_feeds, outbox
    RESTART IDENTITY CASCADE
"""


async def fill_with_bookings(database: BenchDatabase, reservations: int) -> None:
    """Fill a database anew with organizations of ten therapists, 5,000 bookings each.

    One that was filled today stays as it is. The number of reservations is rounded to whole
    organizations, which are equal, but only the first one has clients and vouchers.
    """
    organizations = max(1, round(reservations / (THERAPISTS * BOOKINGS)))
    async with database.admin() as admin:
        if await admin.fetchval(_IS_OF_TODAY):
            return
        # In this role the server does not check foreign keys, which these rows satisfy.
        await admin.execute("SET session_replication_role = replica")
        async with admin.transaction():
            await admin.execute(_EMPTY)
            await admin.execute(_ORGANIZATIONS, ORGANIZATION, organizations)
            await admin.execute(
                _RESOURCES,
                *(FIRST_RESOURCE, ORGANIZATION, THERAPISTS, FIRST_THERAPIST, organizations),
            )
            await admin.execute(_STAFF)
            await admin.execute(_CLIENTS, ORGANIZATION, CLIENT, FIRST_BOOKER, BOOKERS)
            await admin.execute(_HOURS)
            await admin.execute(_TYPE, VOUCHER_TYPE, ORGANIZATION)
            await admin.execute(_VOUCHERS)
            await admin.execute(_SESSIONS, BOOKINGS)
            await admin.execute(_RESERVATIONS)
            await admin.execute(_OCCUPATIONS)
        await admin.execute("VACUUM (ANALYZE, FREEZE)")
        await admin.execute("CHECKPOINT")
