"""Vouchers that wait too long for their money."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.vouchers import queries
from services.vouchers.errors import VoucherPaid
from services.vouchers.models import VoucherStatus
from services.vouchers.service.vouchers import mark_cancelled
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

Close = Callable[[int], Awaitable[None]]
"""Lets no money by hand come any more for a voucher; raises VoucherPaid, ServiceUnavailable."""

BATCH = 100
FAILURES_IN_A_ROW = 3
UNPAID = "unpaid"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a voucher may wait for its money: by card, and in every other way."""

    cards: timedelta
    others: timedelta


async def cancel_unpaid(
    transactions: Transactions,
    close: Close,
    patience: Patience,
    instant: datetime | None = None,
) -> int:
    """Cancel every voucher that has waited too long for its money; return how many.

    A voucher whose payment cannot be closed does not keep the others waiting. Raises
    ServiceUnavailable after several in a row: payments does not answer, and the rest waits for the
    next run.
    """
    moment = instant or now()
    cancelled, last, failures = 0, 0, 0
    while waiting := await _waiting_too_long(transactions, patience, moment, last):
        for voucher_id in waiting:
            try:
                cancelled += await _cancel_if_unpaid(transactions, close, voucher_id)
                failures = 0
            except ServiceUnavailable as error:
                log.warning("payment_not_closed", voucher_id=voucher_id, cause=error.detail)
                failures += 1
                if failures == FAILURES_IN_A_ROW:
                    raise
        last = waiting[-1]
    if cancelled:
        log.info("unpaid_vouchers_cancelled", number=cancelled)
    return cancelled


async def _waiting_too_long(
    transactions: Transactions, patience: Patience, moment: datetime, after: int
) -> Sequence[int]:
    async with transactions.system() as session:
        return await queries.unpaid_after(
            session,
            after,
            cards_before=moment - patience.cards,
            others_before=moment - patience.others,
            limit=BATCH,
        )


async def _cancel_if_unpaid(transactions: Transactions, close: Close, voucher_id: int) -> bool:
    """Cancel a voucher unless its money came first; say whether it was cancelled."""
    try:
        await close(voucher_id)
    except VoucherPaid:
        return False
    async with transactions.system() as session:
        voucher = await queries.lock_voucher(session, voucher_id)
        if voucher.status != VoucherStatus.PENDING:
            return False
        mark_cancelled(session, voucher, UNPAID)
    return True
