"""`python -m services.organizations.bootstrap`: the organization that a new installation has.

The upgrade from version 1 puts everything it finds into the same one.
"""

import asyncio

from services.organizations import queries
from services.organizations.app import NAME
from services.organizations.events import CATALOGUE
from services.organizations.models import Organization
from services.organizations.settings import Settings
from shared.changes import record
from shared.db import make_engine
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


async def main() -> None:
    """Run against the database that the environment names."""
    settings = Settings()
    engine = make_engine(settings.database_url)
    try:
        await ensure_default_organization(Transactions(engine, f"carnet/{NAME}", CATALOGUE))
    finally:
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
