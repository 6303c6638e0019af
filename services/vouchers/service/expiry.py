"""Vouchers whose last day is over."""

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


async def expire_run_out(transactions: Transactions, instant: datetime | None = None) -> int:
    """Expire every active voucher whose last day is over in its organization; return how many.

    A day ends at midnight of the organization's own clock, whether it had 23, 24 or 25 hours.
    """
    instant = instant or now()
    async with transactions.system() as session:
        zones = await queries.time_zones(session)
    expired = 0
    for zone in zones:
        try:
            today = day_in(zone, instant)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            # The organization's service knows more zones than this one; the others must not wait.
            log.error("time_zone_unknown", zone=zone, cause=repr(error))
            continue
        while number := await _expire_some(transactions, zone, today):
            expired += number
    if expired:
        log.info("vouchers_expired", number=expired)
    return expired


async def _expire_some(transactions: Transactions, zone: str, today: date) -> int:
    async with transactions.system() as session:
        vouchers = await queries.lock_run_out(session, zone, today, BATCH)
        for voucher in vouchers:
            voucher.status = VoucherStatus.EXPIRED.value
            record(session, "EXPIRE", voucher)
    return len(vouchers)
