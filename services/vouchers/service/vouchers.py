"""Use cases of sold vouchers: read, note, cancel."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import VoucherNotCancellable, VoucherNotFound
from services.vouchers.models import Adjustment, PaymentMethod, Voucher, VoucherStatus
from services.vouchers.schemas.vouchers import MyVoucher
from services.vouchers.service import payments_client
from services.vouchers.service.calendar import next_session, today_in
from shared.actors import Actor
from shared.changes import record
from shared.clients import ServiceClients
from shared.context import Origin
from shared.db import now
from shared.errors import Forbidden, ServiceUnavailable
from shared.failpoints import failpoint
from shared.preconditions import Precondition
from shared.work import Work


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
        mark_cancelled(session, voucher, reason)
        await session.flush()
        if work.claim:
            await work.claim.attach(session, voucher.id)
        return await _cancelled(session, voucher)


async def _close_payment(clients: ServiceClients, origin: Origin, voucher: Voucher) -> None:
    try:
        await payments_client.close(clients, origin, voucher.id)
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


def mark_cancelled(session: AsyncSession, voucher: Voucher, reason: str | None) -> None:
    """Cancel a locked voucher. The event names its client: a reason in somebody's words is theirs,
    and goes from the audit trail with them."""
    voucher.status = VoucherStatus.CANCELLED.value
    record(session, "CANCEL", voucher, client_id=voucher.client_id, reason=reason)


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
