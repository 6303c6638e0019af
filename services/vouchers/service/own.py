"""One's own vouchers, with the days that matter to their client."""

from collections import defaultdict

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import Adjustment
from services.vouchers.schemas.vouchers import MyVoucher
from services.vouchers.service.calendar import next_session, today_in
from shared.db import now


async def with_days(session: AsyncSession, rows: queries.Rows) -> list[MyVoucher]:
    """Return vouchers with the day of the last session and the first day of the next."""
    freezes: dict[int, list[Adjustment]] = defaultdict(list)
    for freeze in await queries.freezes_of(session, [row.id for row in rows]):
        freezes[freeze.voucher_id].append(freeze)
    instant = now()
    return [
        MyVoucher(
            **row._asdict(),
            next_session_date=next_session(
                row,
                today_in(row.timezone or "UTC", instant),
                row.last_session_date,
                freezes[row.id],
            ),
        )
        for row in rows
    ]
