"""`python -m services.vouchers.bootstrap`: give the default organization its voucher types.

Safe to repeat: an organization that has any voucher type is left as it is.
"""

import asyncio
import sys

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.app import NAME, clients_of
from services.vouchers.defaults import DEFAULT_VOUCHER_TYPES
from services.vouchers.errors import OrganizationNotFound
from services.vouchers.events import CATALOGUE
from services.vouchers.models import OrganizationCopy, VoucherType
from services.vouchers.service.copies import Directory
from services.vouchers.settings import Settings
from shared.changes import record
from shared.clients import ServiceClients
from shared.context import system_origin
from shared.db import make_engine
from shared.transactions import Transactions


async def make_default_types(
    settings: Settings, transactions: Transactions, clients: ServiceClients
) -> int:
    """Make the default voucher types of the default organization; return how many were made.

    Raises OrganizationNotFound without that organization, and ServiceUnavailable when the
    organizations service does not answer.
    """
    directory = Directory(clients, system_origin(), transactions.system)
    organization = await _default_organization(settings, directory)
    async with transactions.system() as session:
        await _lock(session, organization.id)
        if await queries.has_voucher_types(session, organization.id):
            return 0
        for terms in DEFAULT_VOUCHER_TYPES:
            kind = default_type(organization, terms)
            session.add(kind)
            record(session, "CREATE", kind)
    return len(DEFAULT_VOUCHER_TYPES)


async def _default_organization(settings: Settings, directory: Directory) -> OrganizationCopy:
    if settings.default_organization_id is not None:
        found = await directory.find_organization(settings.default_organization_id)
    else:
        found = await directory.fetch_organization_by_slug(settings.default_organization_slug)
    if found is None:
        raise OrganizationNotFound("There is no default organization yet.")
    return found


async def _lock(session: AsyncSession, organization_id: int) -> None:
    """Let two bootstraps at once do it once."""
    key = func.hashtextextended(f"voucher types of {organization_id}", 3)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


def default_type(organization: OrganizationCopy, terms: dict[str, object]) -> VoucherType:
    """Return one of the default voucher types, sold in the organization's currency."""
    return VoucherType(
        organization_id=organization.id,
        currency=organization.currency,
        booking_rules={},
        is_active=True,
        **terms,
    )


async def main(settings: Settings) -> int:
    """Run the bootstrap; return how many voucher types were made."""
    engine = make_engine(settings.database_url)
    clients = clients_of(settings)
    try:
        transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
        return await make_default_types(settings, transactions, clients)
    finally:
        await clients.aclose()
        await engine.dispose()


if __name__ == "__main__":
    made = asyncio.run(main(Settings()))
    sys.stdout.write(f"{made} default voucher types made\n")
