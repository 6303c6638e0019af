"""Expire vouchers whose last day is over."""

from datetime import date, datetime
from zoneinfo import ZoneInfoNotFoundError

import structlog

from services.vouchers import queries
from services.vouchers.models import VoucherStatus
from services.vouchers.service.calendar import day_in
from shared.changes import record
from shared.db import now
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

BATCH = 100


async def expire_vouchers(transactions: Transactions, instant: datetime | None = None) -> int:
    """Expire every active voucher whose last day is over; return their number.

    A day ends at midnight in the organization's time zone, whether it had 23, 24 or 25 hours.
    """
    instant = instant or now()
    async with transactions.system() as session:
        zones = await queries.list_time_zones(session)
    total = 0
    for zone in zones:
        try:
            today = day_in(zone, instant)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            # The organizations service knows more time zones than this one; go on with the others.
            log.error("time_zone_unknown", zone=zone, cause=repr(error))
            continue
        while number := await _expire_batch(transactions, zone, today):
            total += number
    if total:
        log.info("vouchers_expired", number=total)
    return total


async def _expire_batch(transactions: Transactions, zone: str, today: date) -> int:
    async with transactions.system() as session:
        vouchers = await queries.lock_vouchers_to_expire(session, zone, today, BATCH)
        for voucher in vouchers:
            voucher.status = VoucherStatus.EXPIRED
            record(session, "EXPIRE", voucher)
    return len(vouchers)
