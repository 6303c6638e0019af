"""Cancel vouchers that were not paid in time."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.vouchers import queries
from services.vouchers.errors import VoucherPaid
from services.vouchers.models import VoucherStatus
from services.vouchers.service.releases import UNPAID
from services.vouchers.service.vouchers import end_voucher
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

ClosePayment = Callable[[int], Awaitable[None]]
"""Closes the payment of a voucher, by its id. Raises VoucherPaid, ServiceUnavailable."""

BATCH = 100
MAX_FAILURES_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class PaymentDeadlines:
    """How long a voucher may wait for its payment: by card, and by any other method."""

    cards: timedelta
    others: timedelta


async def cancel_unpaid(
    transactions: Transactions,
    close_payment: ClosePayment,
    deadlines: PaymentDeadlines,
    instant: datetime | None = None,
) -> int:
    """Cancel every voucher whose deadline for payment has passed; return their number.

    A voucher whose payment cannot be closed does not block the others. Raises ServiceUnavailable
    after several failures in a row: payments does not answer, and the next run continues.
    """
    instant = instant or now()
    total, last_id, failures = 0, 0, 0
    while voucher_ids := await _list_unpaid(transactions, deadlines, instant, last_id):
        for voucher_id in voucher_ids:
            try:
                total += await _cancel_if_unpaid(transactions, close_payment, voucher_id)
                failures = 0
            except ServiceUnavailable as error:
                log.warning("payment_not_closed", voucher_id=voucher_id, cause=error.detail)
                failures += 1
                if failures == MAX_FAILURES_IN_A_ROW:
                    raise
        last_id = voucher_ids[-1]
    if total:
        log.info("unpaid_vouchers_cancelled", number=total)
    return total


async def _list_unpaid(
    transactions: Transactions, deadlines: PaymentDeadlines, instant: datetime, after: int
) -> Sequence[int]:
    async with transactions.system() as session:
        return await queries.list_unpaid_ids(
            session,
            after,
            cards_before=instant - deadlines.cards,
            others_before=instant - deadlines.others,
            limit=BATCH,
        )


async def _cancel_if_unpaid(
    transactions: Transactions, close_payment: ClosePayment, voucher_id: int
) -> bool:
    """Cancel a voucher unless it was paid meanwhile; return whether it was cancelled."""
    try:
        await close_payment(voucher_id)
    except VoucherPaid:
        return False
    async with transactions.system() as session:
        voucher = await queries.lock_voucher(session, voucher_id)
        if voucher.status != VoucherStatus.PENDING:
            return False
        await end_voucher(session, voucher, UNPAID)
    return True
