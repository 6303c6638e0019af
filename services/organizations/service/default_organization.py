"""The organization that every new installation has; the worker creates it when it starts.

The upgrade from version 1 moves all its data into the same organization.
"""

from services.organizations import queries
from services.organizations.models import Organization
from shared.changes import record
from shared.transactions import Transactions

DEFAULT_NAME = "Default Organization"
DEFAULT_SLUG = "default-org"


async def ensure_default_organization(transactions: Transactions) -> int:
    """Create the default organization unless it exists; return its id. Safe to repeat."""
    async with transactions.system() as session:
        await queries.lock_slug(session, DEFAULT_SLUG)
        organization = await queries.find_organization_by_slug(session, DEFAULT_SLUG)
        if organization is None:
            organization = Organization(name=DEFAULT_NAME, slug=DEFAULT_SLUG)
            session.add(organization)
            record(session, "CREATE", organization)
            await session.flush()
        return organization.id
