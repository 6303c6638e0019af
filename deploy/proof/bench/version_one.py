"""Rows of version 1 in the proportions of production."""

from deploy.proof.rehearsal.databases import VersionOne
from deploy.upgrade.source import TABLES

# For each user two vouchers of ten codes with a third of the sessions used, one session of a class
# and half a reservation.
_ROWS = (
    """
    INSERT INTO users (email, name, password_hash, role, created_at)
    SELECT 'user' || n || '@example.org', 'Person number ' || n,
           '$2b$12$Wk5ZcSOjx8WMj82oXPu2WeDWSY58EKzfsCqyGtujizJa1/XVKys.q',
           CASE WHEN n = 1 THEN 'admin' WHEN n % 50 = 0 THEN 'therapist' ELSE 'client' END,
           timestamp '2023-01-01' + n * interval '1 minute' FROM generate_series(1, {users}) n
    """,
    """
    INSERT INTO therapy_classes (name, duration_minutes, capacity, therapist_id)
    SELECT 'Class ' || n, 60, 1 + n % 2 * 7, 50 FROM generate_series(1, 100) n
    """,
    """
    INSERT INTO vouchers (client_id, therapy_class_id, purchase_date, valid_until, total_sessions,
                          used_sessions)
    SELECT 1 + n % {users}, 1 + n % 100, date '2024-01-01' + n % 700,
           date '2024-06-01' + n % 1400, 8 + n % 3, n % 7 FROM generate_series(1, 2 * {users}) n
    """,
    """
    INSERT INTO voucher_codes (voucher_id, code, is_spare, is_used, used_date)
    SELECT v.id, 'VK-' || v.id || '-' || k, k > 8, k <= v.used_sessions,
           CASE WHEN k <= v.used_sessions THEN timestamp '2024-02-01' + k * interval '7 days' END
    FROM vouchers v, generate_series(1, 10) k
    """,
    """
    INSERT INTO sessions (therapy_class_id, session_date, notes)
    SELECT 1 + n % 100, timestamp '2024-01-01' + n * interval '1 hour', 'A note of some words ' || n
    FROM generate_series(1, {users}) n
    """,
    """
    INSERT INTO reservations (client_id, therapy_class_id, session_date, voucher_code_id, status)
    SELECT 1 + n, 1 + n % 100, timestamp '2024-01-01' + n * interval '1 hour', n, 'confirmed'
    FROM generate_series(1, {users} / 2) n
    """,
)


async def fill(v1: VersionOne, users: int) -> int:
    """Fill empty tables with the rows of `users` users; return the total number of rows."""
    await v1.execute(*(text.format(users=users) for text in _ROWS), "VACUUM ANALYZE")
    counts = [
        await v1.rows(f"SELECT count(*) AS n FROM public.{table}")  # noqa: S608
        for table in TABLES
    ]
    return sum(int(count["n"]) for [count] in counts)
