"""Queries of disputes."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import (
    Dispute,
)
from services.payments.schemas import DisputeRead
from shared.paging import Page
from shared.reads import JsonQuery, Reader


async def find_dispute(session: AsyncSession, gateway: str, gateway_id: str) -> Dispute | None:
    """Return the dispute that a gateway knows by this id, or None."""
    statement = select(Dispute).where(
        Dispute.payment_gateway == gateway, Dispute.gateway_dispute_id == gateway_id
    )
    return await session.scalar(statement)


async def disputes_of(session: AsyncSession, payment_id: int) -> Sequence[Dispute]:
    """Return a payment's disputes, oldest first."""
    statement = select(Dispute).where(Dispute.transaction_id == payment_id).order_by(Dispute.id)
    return (await session.scalars(statement)).all()


_LIST = JsonQuery(
    DisputeRead,
    select().select_from(Dispute).where(Dispute.organization_id == bindparam("organization_id")),
    dict(Dispute.__table__.columns),
    filters={"status": Dispute.status == bindparam("status")},
    order=(Dispute.id,),
)


async def page_of_disputes(
    reader: Reader, page: Page, organization_id: int, status: str | None
) -> bytes:
    """Return a page of an organization's disputes as JSON, newest first."""
    return await _LIST.page(reader, page, organization_id=organization_id, status=status)
