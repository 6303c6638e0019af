"""Use cases of sold vouchers: list, show, change the notes, cancel."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import VoucherNotCancellable, VoucherNotFound
from services.vouchers.models import Adjustment, PaymentMethod, Voucher, VoucherStatus
from services.vouchers.schemas.vouchers import MyVoucher
from services.vouchers.service import payments_client
from services.vouchers.service.calendar import next_session, today_in
from services.vouchers.service.releases import UNPAID, VOUCHER_CANCELLED, release_future
from shared.actors import Actor, permission_missing
from shared.changes import record
from shared.clients import ServiceClients
from shared.db import now
from shared.errors import Forbidden, ServiceUnavailable
from shared.failpoints import failpoint
from shared.paging import Page
from shared.preconditions import Precondition
from shared.reads import Document, Reader
from shared.tenancy import Tenant, limit_to
from shared.work import Work


@dataclass(frozen=True, slots=True)
class VoucherWithCodes:
    """A voucher and its codes."""

    voucher: Voucher
    codes: queries.Codes


async def list_vouchers(
    reader: Reader,
    actor: Actor,
    page: Page,
    organization_id: int,
    filters: queries.VoucherFilters,
) -> bytes:
    """Return a page of an organization's vouchers as JSON, newest first.

    Raises OrganizationNotFound, and Forbidden: therapists must name a code.
    """
    access.require_member(actor, organization_id)
    if not policies.can_list(actor, organization_id, by_code=filters.code is not None):
        raise permission_missing(policies.MANAGE_VOUCHERS)
    return await queries.page_of_vouchers(reader, page, organization_id, filters)


async def list_my_vouchers(
    session: AsyncSession, actor: Actor, page: Page, status: VoucherStatus | None
) -> list[MyVoucher]:
    """Return a page of the vouchers of the actor and of the actor's dependants, newest first, with
    the day of the last session and the first day of the next."""
    rows = await queries.page_of_own_vouchers(session, page, actor.user_id, status=status)
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


async def show_voucher(reader: Reader, actor: Actor, voucher_id: int) -> Document:
    """Return a voucher with its codes as JSON; raises VoucherNotFound."""
    document = await queries.find_detail(reader, voucher_id)
    if document is None or not policies.can_read(actor, document.facts):
        raise VoucherNotFound
    return document


async def get_voucher(session: AsyncSession, actor: Actor, voucher_id: int) -> VoucherWithCodes:
    """Return a voucher with its codes; raises VoucherNotFound."""
    voucher = await access.get_readable_voucher(session, actor, voucher_id)
    return VoucherWithCodes(voucher, await queries.codes_of(session, voucher))


async def update(
    session: AsyncSession,
    actor: Actor,
    voucher_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> VoucherWithCodes:
    """Change a voucher's notes. Raises VoucherNotFound, Forbidden, StaleVersion."""
    voucher = await access.lock_managed_voucher(session, actor, voucher_id)
    precondition.check(voucher.version)
    for name, value in changes.items():
        setattr(voucher, name, value)
    if session.is_modified(voucher):
        record(session, "UPDATE", voucher, client_id=voucher.client_id)
        await session.flush()
    return VoucherWithCodes(voucher, await queries.codes_of(session, voucher))


async def cancel(
    work: Work, actor: Actor, clients: ServiceClients, voucher_id: int, reason: str | None
) -> VoucherWithCodes:
    """Cancel a pending or active voucher; payments receives the event and returns the money.

    The reservations of sessions that have not begun are cancelled with it.

    The payment of a pending voucher is closed first, so that no money can be entered while the
    voucher is being cancelled. Raises VoucherNotFound, Forbidden, VoucherNotCancellable,
    VoucherPaid, and ServiceUnavailable; after the last one the voucher is not cancelled.
    """
    if work.claim and work.claim.resource_id is not None:
        # An earlier request with the same Idempotency-Key cancelled the voucher.
        async with work.begin() as session:
            return await get_voucher(session, actor, voucher_id)
    async with work.begin() as session:
        voucher = await _lock_cancellable(session, actor, voucher_id)
    if voucher.status == VoucherStatus.PENDING:
        try:
            await payments_client.close_payment(clients, work.origin, voucher.id)
        except ServiceUnavailable:
            # Money by card is refunded automatically: the cancellation need not wait for payments.
            if voucher.payment_method != PaymentMethod.CREDIT_CARD:
                raise
        failpoint("cancel.closed")
    async with work.begin() as session:
        voucher = await _lock_cancellable(session, actor, voucher_id)
        await limit_to(session, Tenant(voucher.organization_id, actor.user_id))
        await end_voucher(session, voucher, reason)
        await session.flush()
        if work.claim:
            await work.claim.attach(session, voucher.id)
        return VoucherWithCodes(voucher, await queries.codes_of(session, voucher))


async def _lock_cancellable(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    voucher = await access.lock_readable_voucher(session, actor, voucher_id)
    if not policies.can_cancel(actor, voucher):
        raise Forbidden("Only users with the permission manage_vouchers cancel paid vouchers.")
    if voucher.status not in (VoucherStatus.PENDING, VoucherStatus.ACTIVE):
        raise VoucherNotCancellable
    return voucher


async def end_voucher(session: AsyncSession, voucher: Voucher, reason: str | None) -> None:
    """Cancel a locked voucher, record why, and release its reservations."""
    release_reason = UNPAID if voucher.status == VoucherStatus.PENDING else VOUCHER_CANCELLED
    voucher.status = VoucherStatus.CANCELLED
    record(session, "CANCEL", voucher, **cancellation(voucher, reason))
    await release_future(session, voucher, release_reason)


def cancellation(voucher: Voucher, reason: str | None) -> dict[str, Any]:
    """Return the details of a cancellation's event.

    They name the client: a reason may contain personal data, which is deleted from the audit trail
    together with the client.
    """
    return {"client_id": voucher.client_id, "reason": reason}
