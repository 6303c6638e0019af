"""Use cases of sold vouchers: read, note, cancel, and end them in time."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import VoucherNotCancellable, VoucherNotFound, VoucherPaid
from services.vouchers.models import PaymentMethod, Voucher, VoucherStatus
from services.vouchers.service import charges, ending
from services.vouchers.service.calendar import day_in
from services.vouchers.service.copies import Directory
from shared.actors import Actor
from shared.changes import record
from shared.clients import ServiceClients
from shared.context import Origin
from shared.db import now
from shared.errors import Forbidden, ServiceUnavailable
from shared.failpoints import failpoint
from shared.preconditions import Precondition
from shared.transactions import Transactions
from shared.work import Work

log = structlog.get_logger(__name__)

Close = Callable[[int], Awaitable[None]]
"""Lets no money by hand come any more for a voucher; raises VoucherPaid, ServiceUnavailable."""

BATCH = 100
FAILURES_IN_A_ROW = 3
UNPAID = "unpaid"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A voucher that was cancelled, with its codes."""

    voucher: Voucher
    codes: queries.Rows


async def readable(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    """Return a voucher that the actor may read; raises VoucherNotFound."""
    voucher = await queries.find_readable(session, actor, voucher_id)
    if voucher is None:
        raise VoucherNotFound
    return voucher


async def lock_readable(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    """Return a voucher that the actor may read, locked; raises VoucherNotFound."""
    await readable(session, actor, voucher_id)
    return await queries.lock_voucher(session, voucher_id)


async def lock_managed(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    """Return a voucher that the actor manages, locked; raises VoucherNotFound or Forbidden."""
    voucher = await lock_readable(session, actor, voucher_id)
    actor.require(policies.MANAGE_VOUCHERS, voucher.organization_id)
    return voucher


async def update(
    session: AsyncSession,
    actor: Actor,
    voucher_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> Voucher:
    """Change a voucher's notes. Raises VoucherNotFound, Forbidden, StaleVersion."""
    voucher = await lock_managed(session, actor, voucher_id)
    precondition.check(voucher.version)
    for name, value in changes.items():
        setattr(voucher, name, value)
    if session.is_modified(voucher):
        record(session, "UPDATE", voucher, client_id=voucher.client_id)
        await session.flush()
    return voucher


async def cancel(
    work: Work, clients: ServiceClients, actor: Actor, voucher_id: int, reason: str | None
) -> Cancelled:
    """Cancel a pending or active voucher; payments voids or refunds what it hears of.

    The payment of a pending one is closed first, so that the voucher is not cancelled while
    somebody enters its money. Raises VoucherNotFound, Forbidden, VoucherNotCancellable,
    VoucherPaid, and ServiceUnavailable, after which nothing is cancelled.
    """
    if work.claim and work.claim.resource_id is not None:
        async with work.begin() as session:
            return await _cancelled(session, await readable(session, actor, voucher_id))
    async with work.begin() as session:
        voucher = await _lock_cancellable(session, actor, voucher_id)
    if voucher.status == VoucherStatus.PENDING:
        await _close_payment(clients, work.origin, voucher)
        failpoint("cancel.closed")
    async with work.begin() as session:
        voucher = await _lock_cancellable(session, actor, voucher_id)
        ending.cancel(session, voucher, reason)
        await session.flush()
        if work.claim:
            await work.claim.attach(session, voucher.id)
        return await _cancelled(session, voucher)


async def _close_payment(clients: ServiceClients, origin: Origin, voucher: Voucher) -> None:
    try:
        await charges.close(clients, origin, voucher.id)
    except ServiceUnavailable:
        # Money by card goes back by itself: nobody needs to wait for payments.
        if voucher.payment_method != PaymentMethod.CREDIT_CARD:
            raise


async def _cancelled(session: AsyncSession, voucher: Voucher) -> Cancelled:
    return Cancelled(voucher, await queries.codes_of(session, voucher))


async def _lock_cancellable(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    voucher = await lock_readable(session, actor, voucher_id)
    if not policies.can_cancel(actor, voucher):
        raise Forbidden("a paid voucher is cancelled by those with the permission manage_vouchers")
    if voucher.status not in (VoucherStatus.PENDING, VoucherStatus.ACTIVE):
        raise VoucherNotCancellable
    return voucher


async def learn_organizations(transactions: Transactions, directory: Directory) -> None:
    """Fetch the organizations whose voucher types are here but whose time zone is not known."""
    async with transactions.system() as session:
        unknown = await queries.organizations_without_copy(session)
    for organization_id in unknown:
        await directory.find_organization(organization_id)


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
        ending.cancel(session, voucher, UNPAID)
    return True
