"""Use cases of sold vouchers: read, note, cancel, and end them in time."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import VoucherNotCancellable, VoucherNotFound
from services.vouchers.models import Voucher, VoucherStatus
from services.vouchers.service import ending
from services.vouchers.service.calendar import day_in
from services.vouchers.service.copies import Directory
from shared.auth import Actor
from shared.changes import record
from shared.db import now
from shared.errors import Forbidden
from shared.preconditions import Precondition
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

BATCH = 100
UNPAID = "unpaid"


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
    session: AsyncSession, actor: Actor, voucher_id: int, reason: str | None
) -> Voucher:
    """Cancel a pending or active voucher; payments voids or refunds what it hears of.

    Raises VoucherNotFound, Forbidden, VoucherNotCancellable.
    """
    voucher = await lock_readable(session, actor, voucher_id)
    if not policies.can_cancel(actor, voucher):
        raise Forbidden("a paid voucher is cancelled by those with the permission manage_vouchers")
    if voucher.status not in (VoucherStatus.PENDING, VoucherStatus.ACTIVE):
        raise VoucherNotCancellable
    ending.cancel(session, voucher, reason)
    await session.flush()
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
        except (ZoneInfoNotFoundError, ValueError) as error:
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
    transactions: Transactions, patience: Patience, instant: datetime | None = None
) -> int:
    """Cancel every voucher that has waited too long for its money; return how many."""
    moment = instant or now()
    cancelled = 0
    while number := await _cancel_some(transactions, patience, moment):
        cancelled += number
    if cancelled:
        log.info("unpaid_vouchers_cancelled", number=cancelled)
    return cancelled


async def _cancel_some(transactions: Transactions, patience: Patience, moment: datetime) -> int:
    async with transactions.system() as session:
        vouchers = await queries.lock_unpaid(
            session,
            cards_before=moment - patience.cards,
            others_before=moment - patience.others,
            limit=BATCH,
        )
        for voucher in vouchers:
            ending.cancel(session, voucher, UNPAID)
    return len(vouchers)
