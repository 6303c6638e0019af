"""Queries of disputes."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import (
    Dispute,
)
from shared.paging import Page


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


async def page_of_disputes(
    session: AsyncSession, page: Page, organization_id: int, status: str | None
) -> Sequence[Dispute]:
    """Return a page of an organization's disputes, newest first."""
    statement = select(Dispute).where(Dispute.organization_id == organization_id)
    if status is not None:
        statement = statement.where(Dispute.status == status)
    rows = (await session.scalars(page.of(statement, Dispute.id))).all()
    return page.cut(rows, lambda row: (row.id,))
