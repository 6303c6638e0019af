"""What other services of Carnet may ask; never routed by the gateway."""

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.charging import Cashier
from services.payments.schemas import ChargeCreate, ChargeRead
from services.payments.views import charge_read
from shared.routing import InternalWorkDep, router

internal = router(prefix="/internal", include_in_schema=False)


@internal.post("/charges")
async def charge(body: ChargeCreate, work: InternalWorkDep, request: Request) -> ChargeRead:
    """Charge a voucher: once, however often this is called."""
    cashier = Cashier(work.begin, request.app.state.gateways)
    payment_id = await cashier.charge(body)
    async with work.begin() as session:
        return await _read(session, payment_id)


async def _read(session: AsyncSession, payment_id: int) -> ChargeRead:
    payment, number = await queries.get_with_number(session, payment_id)
    return charge_read(payment, number)
