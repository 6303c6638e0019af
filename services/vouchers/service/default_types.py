"""The voucher types of the default organization, on a fresh installation and after an upgrade.

The worker creates them when the organization's creation is reported, so that an installation needs
no further step. If the event was published before the queue existed, a timer fetches the
organization instead.
"""

from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import Frequency, OrganizationCopy, VoucherType
from services.vouchers.service.remote_copies import OrganizationState, RemoteCopies, store_copy
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
        "frequency": Frequency.WEEKLY,
        "price": Decimal("399.99"),
        "validity_days": 365,
    },
    {
        "name": "Group Therapy Package",
        "total_sessions": 8,
        "backup_sessions": 2,
        "session_duration_minutes": 90,
        "max_clients_per_session": 8,
        "frequency": Frequency.WEEKLY,
        "price": Decimal("199.99"),
        "validity_days": 365,
    },
    {
        "name": "Intensive Daily Sessions",
        "total_sessions": 20,
        "backup_sessions": 4,
        "session_duration_minutes": 45,
        "max_clients_per_session": 1,
        "frequency": Frequency.DAILY,
        "price": Decimal("799.99"),
        "validity_days": 365,
    },
)


async def store_organization(session: AsyncSession, state: OrganizationState) -> None:
    """Store a copy of a new organization; the default one starts with the default types."""
    await store_copy(session, OrganizationCopy, state.model_dump())
    if state.slug == DEFAULT_ORGANIZATION_SLUG:
        organization = await queries.get_organization(session, state.id)
        await ensure_default_types(session, organization)


async def ensure_default_types(session: AsyncSession, organization: OrganizationCopy) -> int:
    """Create an organization's default voucher types unless it has any; return their number.

    Calls may be repeated and may run at the same time, also during the upgrade from version 1.
    """
    await queries.lock_voucher_types_of(session, organization.id)
    if await queries.has_voucher_types(session, organization.id):
        return 0
    for terms in DEFAULT_VOUCHER_TYPES:
        voucher_type = default_type(organization, terms)
        session.add(voucher_type)
        record(session, "CREATE", voucher_type)
    return len(DEFAULT_VOUCHER_TYPES)


async def complete_missed_creation(transactions: Transactions, copies: RemoteCopies) -> None:
    """Fetch the default organization if its creation was missed, and create its default types.

    Once there is a copy of the organization nothing happens: types that were deleted are not
    created again. Raises ServiceUnavailable.
    """
    async with transactions.system() as session:
        if await queries.has_organization(session, DEFAULT_ORGANIZATION_SLUG):
            return
    state = await copies.read_organization_by_slug(DEFAULT_ORGANIZATION_SLUG)
    if state is None:
        return
    async with transactions.system() as session:
        await store_organization(session, state)


def default_type(organization: OrganizationCopy, terms: dict[str, Any]) -> VoucherType:
    """Return one of the default voucher types, sold in the organization's currency."""
    return VoucherType(
        organization_id=organization.id,
        currency=organization.currency,
        booking_rules={},
        is_active=True,
        **terms,
    )
