"""The organization that a new installation has, made by the worker when it starts.

The upgrade from version 1 puts everything it finds into the same one.
"""

from services.organizations import queries
from services.organizations.models import Organization
from shared.changes import record
from shared.transactions import Transactions

DEFAULT_NAME = "Default Organization"
DEFAULT_SLUG = "default-org"


async def ensure_default_organization(transactions: Transactions) -> int:
    """Make the default organization unless it exists; return its id. Safe to repeat."""
    async with transactions.system() as session:
        await queries.lock_slug(session, DEFAULT_SLUG)
        organization = await queries.find_by_slug(session, DEFAULT_SLUG)
        if organization is None:
            organization = Organization(name=DEFAULT_NAME, slug=DEFAULT_SLUG)
            session.add(organization)
            record(session, "CREATE", organization)
            await session.flush()
        return organization.id
