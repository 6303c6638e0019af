"""The default organization's voucher types, made when its creation is heard of, or was missed.

Whoever installs Carnet starts workers, so no further step can be forgotten. On a fresh installation
all of them start at once, and what is published before our queue exists never reaches it.
"""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.defaults import DEFAULT_VOUCHER_TYPES
from services.vouchers.models import OrganizationCopy, VoucherType
from services.vouchers.service.copies import Directory, keep
from shared.changes import record
from shared.transactions import Transactions

DEFAULT_ORGANIZATION_SLUG = "default-org"


async def ensure_default_types(session: AsyncSession, organization: OrganizationCopy) -> int:
    """Make an organization's default voucher types unless it has any; return how many were made.

    Safe to repeat and to race, also with the upgrade from version 1.
    """
    await _lock(session, organization.id)
    if await queries.has_voucher_types(session, organization.id):
        return 0
    for terms in DEFAULT_VOUCHER_TYPES:
        kind = default_type(organization, terms)
        session.add(kind)
        record(session, "CREATE", kind)
    return len(DEFAULT_VOUCHER_TYPES)


async def make_up_for_missed_creation(transactions: Transactions, directory: Directory) -> None:
    """Ask for the default organization as long as we have not heard of it, and do the same.

    Types that somebody deleted are not made again: then its copy is here.
    Raises ServiceUnavailable.
    """
    async with transactions.system() as session:
        if await queries.knows_slug(session, DEFAULT_ORGANIZATION_SLUG):
            return
    state = await directory.ask_by_slug(DEFAULT_ORGANIZATION_SLUG)
    if state is None:
        return
    async with transactions.system() as session:
        await keep(session, OrganizationCopy, state.model_dump())
        organization = await session.get_one(OrganizationCopy, state.id)
        await ensure_default_types(session, organization)


async def _lock(session: AsyncSession, organization_id: int) -> None:
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
