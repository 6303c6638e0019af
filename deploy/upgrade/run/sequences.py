"""Id sequences: version 2's new ids follow version 1's, before the first row is copied."""

from typing import Any

from deploy.upgrade.run.plan import HOMES, Plan
from deploy.upgrade.targets import Connections

# A sequence is never set back, because version 2 may already have assigned later ids.
_CONTINUE = """
    SELECT setval(sequence, greatest($2, last_value + CASE WHEN is_called THEN 1 ELSE 0 END), false)
    FROM {sequence}, CAST($1 AS regclass) AS sequence
"""


async def reserve_ids(plan: Plan, owners: Connections) -> None:
    """Set every sequence to continue after version 1's ids, as the schema's owner."""
    for table, service in HOMES.items():
        owner = owners[service]
        name = await sequence_of(owner, table)
        following = plan.extents[table].last_id + 1
        await owner.execute(_CONTINUE.format(sequence=name), name, following)


async def sequence_of(connection: Any, table: str) -> str:
    """Return the name of the sequence of a table's ids."""
    name: str = await connection.fetchval("SELECT pg_get_serial_sequence($1, 'id')", table)
    return name


async def next_ids(connections: Connections) -> dict[str, int]:
    """Return the next id of each table."""
    return {
        table: await connections[service].fetchval(
            "SELECT last_value + CASE WHEN is_called THEN 1 ELSE 0 END FROM "
            + await sequence_of(connections[service], table)
        )
        for table, service in HOMES.items()
    }
