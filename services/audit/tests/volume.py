"""Many rows at once: copies of one that was received as usual, over several months."""

from datetime import UTC, datetime

from services.audit.tests.conftest import deliver, event
from shared.testing import Database
from shared.transactions import Transactions

MONTHS = [datetime(2026, month, 15, tzinfo=UTC) for month in (5, 6, 7)]

# Ten minutes apart by their numbers, so that three thousand rows fill the partitions of a month.
_COPIES = """
    INSERT INTO audit_logs (user_id, organization_id, action, entity_type, entity_id, old_values,
        new_values, created_at, event_id, correlation_id, service, envelope, position,
        previous_hash, hash)
    SELECT n % 2, 7 + n % 3, action, entity_type, n % 4, old_values, new_values,
        '2026-05-01'::timestamptz + make_interval(secs => n * 7900000.0 / $1), event_id || n,
        'request-' || n / 4, service, envelope, n, previous_hash, hash
    FROM (SELECT * FROM audit_logs LIMIT 1) AS model, generate_series(1, $1::integer) AS n
"""


async def fill(database: Database, transactions: Transactions, rows: int) -> None:
    """Write so many rows of three organizations from May to July 2026; no chain holds them."""
    await deliver(transactions, *(event(time=month) for month in MONTHS))
    async with database.admin() as admin:
        await admin.execute(_COPIES.replace("$1", str(rows)))
        await admin.execute("ANALYZE audit_logs")
