"""Queries of the operator's fees."""

from sqlalchemy import bindparam, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import OrganizationNotFound
from services.payments.models import PlatformFee
from services.payments.schemas.accounts import (
    PlatformFeeRead,
)
from shared.connections import execute_early
from shared.reads import JsonQuery, Reader

_ONE_ROW = select(literal(1).label("one")).subquery("one_row")
_OF_ORGANIZATION = JsonQuery(
    PlatformFeeRead,
    select().select_from(
        _ONE_ROW.outerjoin(PlatformFee, PlatformFee.organization_id == bindparam("organization_id"))
    ),
    {
        "percent": func.coalesce(PlatformFee.percent, 0),
        "fixed_amount": func.coalesce(PlatformFee.fixed_amount, 0),
        "fixed_currency": PlatformFee.fixed_currency,
        "updated_at": PlatformFee.updated_at,
    },
)


async def get_fee_document(reader: Reader, organization_id: int) -> bytes:
    """Return the fee rate of an organization as JSON; zero if none was set.

    Raises OrganizationNotFound if there is no row, which the statement excludes.
    """
    document = await _OF_ORGANIZATION.find(reader, organization_id=organization_id)
    if document is None:
        raise OrganizationNotFound
    return document.body


async def lock_platform_fee(session: AsyncSession, organization_id: int) -> PlatformFee | None:
    """Return the fee rate of an organization, or None.

    No other transaction can set it, also if there is none yet.
    """
    lock = f"pg_advisory_xact_lock(hashtextextended('platform-fee/{int(organization_id)}', 3))"
    await execute_early(session, f"SELECT {lock}")
    statement = select(PlatformFee).where(PlatformFee.organization_id == organization_id)
    return await session.scalar(statement.with_for_update())
