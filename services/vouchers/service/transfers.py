"""Transfers: another client of the organization receives sessions of a voucher, or returns them.

The receiver has a voucher with the terms and the last day of the giver's, and codes of its own. The
payment stays with its payer: sessions that are to be refunded are returned first (decision 0045).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import (
    ClientInactive,
    ClientNotFound,
    NothingReceived,
    RefundUnderWay,
    SessionsBooked,
    SessionsReceived,
    VoucherCancelled,
    VoucherDisputed,
    VoucherExhausted,
    VoucherExpired,
    VoucherFrozen,
    VoucherUnpaid,
)
from services.vouchers.models import ClientCopy, TransferEntry, Voucher, VoucherStatus
from services.vouchers.schemas.transfers import ReturnCreate, TransferCreate
from services.vouchers.service import codes, payments_client, refunds
from services.vouchers.service.calendar import day_in
from services.vouchers.service.remote_copies import RemoteCopies
from shared.actors import Actor
from shared.changes import record
from shared.clients import ServiceClients
from shared.db import now
from shared.errors import Conflict, Invalid
from shared.reads import Reader
from shared.work import Work

_REFUSALS: Mapping[str, type[Conflict]] = {
    VoucherStatus.PENDING: VoucherUnpaid,
    VoucherStatus.CANCELLED: VoucherCancelled,
    VoucherStatus.EXPIRED: VoucherExpired,
    VoucherStatus.COMPLETED: VoucherExhausted,
}


@dataclass(frozen=True, slots=True)
class _Move:
    """Sessions that go from one voucher to another, both locked, and by whom and why."""

    giver: Voucher
    receiver: Voucher
    sessions: int
    made_by: int
    reason: str


async def list_transfers(reader: Reader, actor: Actor, voucher_id: int) -> bytes:
    """Return a voucher's transfers as JSON, newest first; raises VoucherNotFound."""
    parties = await access.get_readable_parties(reader, actor, voucher_id)
    return await queries.list_transfers(reader, parties.organization_id, voucher_id)


async def transfer(
    work: Work, actor: Actor, clients: ServiceClients, voucher_id: int, body: TransferCreate
) -> TransferEntry:
    """Transfer unused sessions of a voucher to a new voucher of another client.

    Raises VoucherNotFound, Forbidden, VoucherUnpaid, VoucherCancelled, VoucherExpired,
    VoucherExhausted, SessionsReceived, VoucherDisputed, VoucherFrozen, RefundUnderWay,
    SessionsBooked, ClientNotFound, ClientInactive, OrganizationNotFound, ServiceUnavailable, and
    Invalid for the voucher's own client or more sessions than are left.
    """
    if work.claim and work.claim.resource_id is not None:
        # An earlier request with the same Idempotency-Key made the transfer.
        async with work.begin() as session:
            return await queries.get_transfer(session, work.claim.resource_id)
    async with work.begin() as session:
        voucher = await _lock_transferable(session, actor, voucher_id, body)
        client = await queries.find_client(session, body.client_id)
    if not (_is_client(client, voucher) and client.is_active):
        client = await RemoteCopies(clients, work.origin, work.begin).fetch_client(body.client_id)
    if not _is_client(client, voucher):
        raise ClientNotFound
    if not client.is_active:
        raise ClientInactive
    payment = await payments_client.find_payment(clients, work.origin, voucher_id)
    if payment is not None and payment.pending_amount:
        raise RefundUnderWay
    async with work.begin() as session:
        voucher = await _lock_transferable(session, actor, voucher_id, body)
        sessions = _free_sessions(voucher, body.sessions)
        receiver = await _add_receiver(session, voucher, client, sessions, body.reason)
        entry = await _give(
            session, _Move(voucher, receiver, sessions, actor.user_id, body.reason), "TRANSFER"
        )
        if work.claim:
            await work.claim.attach(session, entry.id)
    return entry


async def return_sessions(
    session: AsyncSession, actor: Actor, voucher_id: int, body: ReturnCreate
) -> TransferEntry:
    """Return unused sessions to the voucher that they were received from; return the giving side.

    Raises VoucherNotFound, Forbidden, NothingReceived, VoucherExhausted, SessionsBooked, and
    Invalid for more sessions than are left.
    """
    voucher = await access.get_readable_voucher(session, actor, voucher_id)
    actor.require(policies.MANAGE_VOUCHERS, voucher.organization_id)
    if voucher.received_from_id is None:
        raise NothingReceived
    # Vouchers are locked in the order of their ids, and the origin is the older one.
    origin = await queries.lock_voucher(session, voucher.received_from_id)
    voucher = await queries.lock_voucher(session, voucher_id)
    sessions = _free_sessions(voucher, body.sessions)
    await codes.restore_transferred(session, origin, sessions)
    move = _Move(voucher, origin, sessions, actor.user_id, body.reason)
    entry = await _give(session, move, "RETURN")
    # No query from here on: its flush would write half of the change, which the database refuses.
    origin.transferred_sessions -= sessions
    record(
        session,
        "REGAIN",
        origin,
        client_id=origin.client_id,
        sessions=sessions,
        other_voucher_id=voucher.id,
        reason=body.reason,
    )
    await refunds.reopen(session, origin)
    await session.flush()
    return entry


async def _lock_transferable(
    session: AsyncSession, actor: Actor, voucher_id: int, body: TransferCreate
) -> Voucher:
    """Return a voucher whose sessions can be transferred, locked."""
    voucher = await access.lock_managed_voucher(session, actor, voucher_id)
    if body.client_id == voucher.client_id:
        raise Invalid("client_id", "must be another client than the voucher's")
    if refusal := _REFUSALS.get(voucher.status):
        raise refusal
    if voucher.received_from_id is not None:
        raise SessionsReceived
    if voucher.disputed_at is not None:
        raise VoucherDisputed
    if await queries.has_taken_quote(session, voucher):
        raise RefundUnderWay
    await _require_unfrozen(session, voucher)
    _free_sessions(voucher, body.sessions)
    return voucher


async def _require_unfrozen(session: AsyncSession, voucher: Voucher) -> None:
    """Raise VoucherFrozen for a freeze that has not ended: the receiver would not have it."""
    organization = await queries.get_organization(session, voucher.organization_id)
    today = day_in(organization.timezone, now())
    for freeze in await queries.freezes_of(session, [voucher.id]):
        if freeze.ends_on is not None and freeze.ends_on >= today:
            raise VoucherFrozen(
                f"The voucher is frozen until {freeze.ends_on}. Reverse the freeze first."
            )


def _free_sessions(voucher: Voucher, number: int | None) -> int:
    """Return how many sessions are to leave a voucher: those requested, or all free ones."""
    unused, free = voucher.regular_sessions_left, voucher.bookable_sessions
    if unused < 1:
        raise VoucherExhausted("The voucher has no session left.")
    if number is not None and number > unused:
        raise Invalid("sessions", f"must not be more than the {unused} sessions that are left")
    if free < (number or 1):
        raise SessionsBooked(f"Only {free} of the sessions are not booked. Cancel reservations.")
    return number or free


def _is_client(client: ClientCopy | None, voucher: Voucher) -> TypeGuard[ClientCopy]:
    return (
        client is not None
        and client.organization_id == voucher.organization_id
        and client.role == policies.CLIENT
    )


async def _add_receiver(
    session: AsyncSession, voucher: Voucher, client: ClientCopy, sessions: int, reason: str
) -> Voucher:
    """Add the voucher of the client who receives sessions, with its codes."""
    receiver = voucher.part_for(client, sessions)
    session.add(receiver)
    record(session, "RECEIVE", receiver, sessions=sessions, reason=reason)
    await session.flush()
    await codes.issue(session, receiver)
    return receiver


async def _give(session: AsyncSession, move: _Move, action: str) -> TransferEntry:
    """Take sessions and their codes from the giver, and enter both sides of the transfer."""
    giver, receiver = move.giver, move.receiver
    await codes.transfer(session, giver, move.sessions)
    entry = _entry(move, giver, receiver, -move.sessions)
    session.add(entry)
    await session.flush()
    opposite = _entry(move, receiver, giver, move.sessions)
    opposite.opposite_id = entry.id
    session.add(opposite)
    await session.flush()
    giver.transferred_sessions += move.sessions
    if giver.regular_sessions_left == 0 and giver.status == VoucherStatus.ACTIVE:
        giver.status = VoucherStatus.COMPLETED
    details: dict[str, Any] = {"other_voucher_id": receiver.id, "reason": move.reason}
    record(session, action, giver, client_id=giver.client_id, sessions=move.sessions, **details)
    await session.flush()
    return entry


def _entry(move: _Move, voucher: Voucher, other: Voucher, sessions: int) -> TransferEntry:
    return TransferEntry(
        organization_id=voucher.organization_id,
        voucher_id=voucher.id,
        client_id=voucher.client_id,
        other_voucher_id=other.id,
        sessions=sessions,
        reason=move.reason,
        made_by=move.made_by,
    )
