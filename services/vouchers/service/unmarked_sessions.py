"""Settle the sessions that nobody marked as attended or missed."""

from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import Attestation
from services.vouchers.scheduling.snapshots import ReservationStatus
from services.vouchers.service.booking_conflicts import flush_booking
from services.vouchers.service.charges import Charge, Evidence, settle
from services.vouchers.service.reservations import lock_place, place_of
from shared.db import now
from shared.errors import Conflict
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

BATCH = 100


async def settle_unmarked(transactions: Transactions, instant: datetime | None = None) -> int:
    """Settle booked reservations whose session ended long enough ago; return their number.

    The booking policy states after how many hours, and whether at all. They count as attended, and
    nobody attests it. A reservation whose redemption was reversed is left to the staff. One that
    cannot be settled does not block the others.
    """
    instant = instant or now()
    total, last_id = 0, 0
    while reservation_ids := await _list_unmarked(transactions, instant, last_id):
        for reservation_id in reservation_ids:
            try:
                async with transactions.system() as session:
                    total += await _settle(session, reservation_id, instant)
            except Conflict as error:
                log.warning(
                    "session_not_settled", reservation_id=reservation_id, cause=error.detail
                )
        last_id = reservation_ids[-1]
    if total:
        log.info("unmarked_sessions_settled", number=total)
    return total


async def _list_unmarked(
    transactions: Transactions, instant: datetime, after: int
) -> Sequence[int]:
    async with transactions.system() as session:
        return await queries.list_unmarked_ids(session, instant, after, BATCH)


async def _settle(session: AsyncSession, reservation_id: int, instant: datetime) -> bool:
    """Settle a reservation as attended; return whether it was still unmarked."""
    reservation = await queries.get_reservation(session, reservation_id)
    place = await lock_place(session, await place_of(session, reservation))
    reservation = place.reservation
    is_booked = reservation.status == ReservationStatus.BOOKED and reservation.settled_at is None
    if not is_booked or reservation.ends_at >= instant:
        return False
    charge: Charge = "regular" if place.voucher else "none"
    evidence = Evidence(Attestation.TIMER)
    await settle(session, place, ReservationStatus.ATTENDED, charge, None, evidence=evidence)
    await flush_booking(session)
    return True
