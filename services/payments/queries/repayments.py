"""Queries of repayments."""

from collections.abc import Sequence

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import RepaymentNotFound
from services.payments.models import Repayment, RepaymentStatus
from services.payments.schemas import RepaymentRead
from shared.paging import Page
from shared.reads import JsonQuery, Reader


async def find_repayment(
    session: AsyncSession, payment_id: int, refund_id: int | None
) -> Repayment | None:
    """Return what is due or was settled for a refund, or is due for no refund; or None."""
    statement = select(Repayment).where(Repayment.transaction_id == payment_id)
    if refund_id is None:
        statement = statement.where(
            Repayment.refund_id.is_(None), Repayment.status == RepaymentStatus.DUE
        )
    else:
        statement = statement.where(Repayment.refund_id == refund_id)
    return await session.scalar(statement)


async def get_repayment(
    session: AsyncSession, organization_id: int, repayment_id: int
) -> Repayment:
    """Return an organization's repayment as it is now; raises RepaymentNotFound."""
    repayment = await session.get(Repayment, repayment_id, populate_existing=True)
    if repayment is None or repayment.organization_id != organization_id:
        raise RepaymentNotFound
    return repayment


async def due_repayments_of(session: AsyncSession, payment_id: int) -> Sequence[Repayment]:
    """Return what is due of a payment, oldest first."""
    statement = select(Repayment).where(
        Repayment.transaction_id == payment_id, Repayment.status == RepaymentStatus.DUE
    )
    return (await session.scalars(statement.order_by(Repayment.id))).all()


_LIST = JsonQuery(
    RepaymentRead,
    select()
    .select_from(Repayment)
    .where(Repayment.organization_id == bindparam("organization_id")),
    dict(Repayment.__table__.columns),
    filters={"status": Repayment.status == bindparam("status")},
    order=(Repayment.id,),
)


async def page_of_repayments(
    reader: Reader, page: Page, organization_id: int, status: RepaymentStatus | None
) -> bytes:
    """Return a page of an organization's repayments as JSON, newest first."""
    return await _LIST.page(reader, page, organization_id=organization_id, status=status)


async def count_due_repayments(session: AsyncSession) -> dict[str, int]:
    """Return how many are due, by reason."""
    statement = (
        select(Repayment.reason, func.count())
        .where(Repayment.status == RepaymentStatus.DUE)
        .group_by(Repayment.reason)
    )
    rows = (await session.execute(statement)).all()
    return {str(reason): int(number) for reason, number in rows}
