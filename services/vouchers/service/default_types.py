"""The default organization's voucher types, made when its creation is heard of, or was missed.

Whoever installs Carnet starts workers, so no further step can be forgotten. On a fresh installation
all of them start at once, and what is published before our queue exists never reaches it.
"""

from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import Frequency, OrganizationCopy, VoucherType
from services.vouchers.service.remote_copies import RemoteCopies, keep
from shared.changes import record
from shared.transactions import Transactions

DEFAULT_ORGANIZATION_SLUG = "default-org"

DEFAULT_VOUCHER_TYPES: tuple[dict[str, Any], ...] = (
    {
        "name": "Standard Individual Therapy",
        "total_sessions": 10,
        "backup_sessions": 2,
        "session_duration_minutes": 60,
        "max_clients_per_session": 1,
        "frequency": Frequency.WEEKLY.value,
        "price": Decimal("399.99"),
        "validity_days": 365,
    },
    {
        "name": "Group Therapy Package",
        "total_sessions": 8,
        "backup_sessions": 2,
        "session_duration_minutes": 90,
        "max_clients_per_session": 8,
        "frequency": Frequency.WEEKLY.value,
        "price": Decimal("199.99"),
        "validity_days": 365,
    },
    {
        "name": "Intensive Daily Sessions",
        "total_sessions": 20,
        "backup_sessions": 4,
        "session_duration_minutes": 45,
        "max_clients_per_session": 1,
        "frequency": Frequency.DAILY.value,
        "price": Decimal("799.99"),
        "validity_days": 365,
    },
)


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


async def make_up_for_missed_creation(
    transactions: Transactions, remote_copies: RemoteCopies
) -> None:
    """Fetch the default organization while it is missing, and do the same.

    Types that somebody deleted are not made again: then its copy is here.
    Raises ServiceUnavailable.
    """
    async with transactions.system() as session:
        if await queries.knows_slug(session, DEFAULT_ORGANIZATION_SLUG):
            return
    state = await remote_copies.ask_by_slug(DEFAULT_ORGANIZATION_SLUG)
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
