"""Selling a voucher: a client buys it, or staff issue it to a client.

1. A transaction claims the Idempotency-Key and creates the pending voucher. Its event lets
   payments create the payment, should the call of step 2 never arrive. A session that is ordered
   with the voucher is held in the same transaction.
2. Payments is called to charge the voucher, outside of any transaction. However often this is
   repeated, a voucher is charged once.
3. A second transaction applies the result, and stores the response under the key. The event of
   payments applies the result as well; the first one counts.

A repeated request with the same Idempotency-Key continues at step 2.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from services.vouchers import access, policies, queries
from services.vouchers.errors import (
    CardsNotAvailable,
    CardTokenUnknown,
    PaymentDeclined,
    VoucherCancelled,
    VoucherTypeChanged,
    VoucherTypeNotFound,
    VoucherTypeNotSold,
)
from services.vouchers.models import (
    AccountMode,
    PaymentStatus,
    Voucher,
    VoucherStatus,
)
from services.vouchers.schemas.reservations import ReservationResult
from services.vouchers.schemas.vouchers import PurchaseCreate, VoucherIssue
from services.vouchers.service import payments_client, purchase_holds, settlement
from services.vouchers.service.calendar import day_in
from services.vouchers.service.payments_client import Charge, ChargeRefused
from services.vouchers.service.purchase_holds import SessionOrder
from services.vouchers.service.remote_copies import RemoteCopies
from services.vouchers.service.sale_parties import (
    PurchaseOrder,
    SaleParties,
    fetch_parties,
    find_parties,
)
from shared.actors import Actor
from shared.clients import ServiceClients
from shared.connections import Fetch, fetch
from shared.db import now
from shared.detached import detached
from shared.errors import AppError, Forbidden, Invalid
from shared.failpoints import failpoint
from shared.tenancy import limit_to, see_all_tenants
from shared.work import Work
from shared.writes import Writes


@dataclass(frozen=True, slots=True)
class PendingSale:
    """A voucher that is not settled yet. `is_new`: no request has charged it before."""

    voucher: Voucher
    parties: SaleParties
    is_new: bool


@dataclass(frozen=True, slots=True)
class Sale:
    """A sold voucher with its codes, which it has once it is paid, its charge, and the reservation
    that was ordered with it."""

    voucher: Voucher
    codes: queries.Codes
    charge: Charge
    reservation: ReservationResult | None = None


async def buy(
    work: Work,
    actor: Actor,
    clients: ServiceClients,
    accounts: AccountMode,
    body: PurchaseCreate,
) -> Sale:
    """Sell a voucher to the actor or, if an administrator buys, to the client that is named.

    Raises Forbidden and what `_sell` raises.
    """
    if not policies.can_buy(actor):
        raise Forbidden("Only clients buy vouchers. Staff issue a voucher to a client.")
    client_id = body.client_id or actor.user_id
    order = PurchaseOrder(
        voucher_type_id=body.voucher_type_id,
        organization_id=None if policies.can_see_all_offers(actor) else actor.organization_id,
        client_id=client_id,
        payment_method=body.payment_method,
        accounts=accounts,
        buyer_id=None if actor.is_admin else actor.user_id,
        payment_token=body.payment_token.get_secret_value() if body.payment_token else None,
        notes=body.notes,
        voucher_type_version=body.voucher_type_version,
        session_order=SessionOrder(actor, body.reservation) if body.reservation else None,
    )
    return await _sell(work, clients, order)


async def issue(
    work: Work,
    actor: Actor,
    clients: ServiceClients,
    accounts: AccountMode,
    organization_id: int,
    body: VoucherIssue,
) -> Sale:
    """Sell a voucher to a client of an organization, who pays the staff in cash or by transfer.

    Raises OrganizationNotFound, Forbidden and what `_sell` raises.
    """
    access.require_voucher_manager(actor, organization_id)
    order = PurchaseOrder(
        voucher_type_id=body.voucher_type_id,
        organization_id=organization_id,
        client_id=body.client_id,
        payment_method=body.payment_method,
        accounts=accounts,
        notes=body.notes,
        members_only=True,
    )
    return await _sell(work, clients, order)


async def _sell(work: Work, clients: ServiceClients, order: PurchaseOrder) -> Sale:
    """Create a voucher, charge it, and apply the result.

    Raises VoucherTypeNotFound, VoucherTypeNotSold, VoucherTypeChanged, OrganizationInactive,
    ClientNotFound, ClientInactive, CardsNotAvailable, what refuses the session that is ordered,
    PaymentDeclined, CardTokenUnknown, VoucherCancelled (it was cancelled while it was being paid),
    Invalid (payments refuses a field)
    and ServiceUnavailable; after the last one the same request may be repeated with its
    Idempotency-Key.
    """
    pending = await _create_or_find(work, clients, order)
    failpoint("purchase.begun")
    voucher, parties = pending.voucher, pending.parties
    try:
        charge = await payments_client.charge(
            clients,
            work.origin,
            voucher,
            parties.organization,
            parties.payer,
            order.payment_token,
            is_first=pending.is_new,
        )
    except ChargeRefused as refusal:
        async with work.begin() as session:
            await limit_to(session, parties.tenant)
            report = settlement.PaymentReport("failed")
            await settlement.apply_payment(session, voucher.id, report)
        raise Invalid(refusal.field, refusal.message) from None
    failpoint("purchase.charged")
    sale = await _settle(work, order, voucher, parties, charge)
    failpoint("purchase.settled")
    if charge.status == "failed":
        raise _decline(charge)
    if sale.voucher.status == VoucherStatus.CANCELLED:
        raise VoucherCancelled
    return sale


async def _create_or_find(work: Work, clients: ServiceClients, order: PurchaseOrder) -> PendingSale:
    """Create the pending voucher in one transaction, if our copies of the parties allow it.

    If they do not, they may be out of date: the owners' services are called outside of any
    transaction, and a second one creates the voucher.
    """
    async with work.begin_first() as session:
        if not order.is_within(work.tenant):
            # The seller is known once the type is read, and it may be any organization.
            await see_all_tenants(session)
        offer = await _lock_offer(session, order, work.lease_and_fetch)
        if work.claim and work.claim.resource_id is not None:
            return await _find_created(session, work.claim.resource_id)
        if offer is None:
            raise VoucherTypeNotFound
        if parties := await find_parties(session, offer, order):
            if not order.is_within(work.tenant):
                await limit_to(session, parties.tenant)
            return await _add_voucher(work, session, order, offer, parties)
    parties = await fetch_parties(RemoteCopies(clients, work.origin, work.begin), offer, order)
    async with work.begin() as session:
        await limit_to(session, parties.tenant)
        offer = await _lock_offer(session, order)
        if offer is None:
            raise VoucherTypeNotFound
        return await _add_voucher(work, session, order, offer, parties)


async def _lock_offer(
    session: AsyncSession, order: PurchaseOrder, fetch_rows: Fetch = fetch
) -> queries.Offer | None:
    """Return the offer that is ordered, or None if its organization may not sell it."""
    offer = await queries.lock_offer(
        session, order.voucher_type_id, order.client_id, order.accounts, fetch_rows=fetch_rows
    )
    if offer is None or order.organization_id in (None, offer.type.organization_id):
        return offer
    return None


async def _find_created(session: AsyncSession, voucher_id: int) -> PendingSale:
    """Return the voucher that an interrupted request with the same Idempotency-Key created.

    Raises VoucherCancelled if it was cancelled since: then it must not be charged.
    """
    await see_all_tenants(session)
    voucher, _ = await queries.get_voucher_with_zone(session, voucher_id)
    if voucher.status == VoucherStatus.CANCELLED and voucher.payment_status != PaymentStatus.FAILED:
        raise VoucherCancelled
    organization = await queries.get_organization(session, voucher.organization_id)
    client = await queries.get_client(session, voucher.client_id)
    payer = await queries.get_client(session, client.guardian_id or client.id)
    return PendingSale(voucher, SaleParties(organization, client, payer), is_new=False)


async def _settle(
    work: Work, order: PurchaseOrder, voucher: Voucher, parties: SaleParties, charge: Charge
) -> Sale:
    """Apply the charge to the voucher: as we know it or, if it has changed since, read again.

    A refusal must not undo what it follows from, so only a success is applied in the transaction
    that stores the response.
    """
    voucher_id = voucher.id
    report = settlement.PaymentReport(charge.status, charge.invoice_number, charge.completed_at)
    if charge.status == "succeeded" and voucher.status == VoucherStatus.PENDING:
        with suppress(StaleDataError):
            async with work.begin_last() as session:
                await limit_to(session, parties.tenant)
                zone = parties.organization.timezone
                voucher, codes = await settlement.activate(session, voucher, zone, report)
                reservation = await _reservation_of(session, order, voucher)
            return Sale(voucher, codes, charge, reservation)
    async with work.begin() as session:
        await limit_to(session, parties.tenant)
        voucher = await settlement.apply_payment(session, voucher_id, report)
        codes = await queries.codes_of(session, voucher)
        return Sale(voucher, codes, charge, await _reservation_of(session, order, voucher))


async def _reservation_of(
    session: AsyncSession, order: PurchaseOrder, voucher: Voucher
) -> ReservationResult | None:
    if order.session_order is None:
        return None
    return await purchase_holds.find_result(session, voucher.id)


async def _add_voucher(
    work: Work,
    session: AsyncSession,
    order: PurchaseOrder,
    offer: queries.Offer,
    parties: SaleParties,
) -> PendingSale:
    voucher_type = offer.type
    if not voucher_type.is_active:
        raise VoucherTypeNotSold
    if order.voucher_type_version not in (None, voucher_type.version):
        raise VoucherTypeChanged
    if order.payment_method not in offer.payment_methods:
        raise CardsNotAvailable
    values = Voucher.sold(
        voucher_type,
        client_id=parties.client.id,
        guardian_id=parties.client.guardian_id,
        purchase_date=day_in(parties.organization.timezone, now()),
        payment_method=order.payment_method,
        notes=order.notes,
    )
    details: dict[str, Any] = {
        "buyer": payments_client.buyer_of(parties.payer),
        "seller": payments_client.seller_of(parties.organization),
    }
    if parties.payer is not parties.client:
        details["payer_id"] = parties.payer.id
    writes = Writes(session)
    row = writes.insert(Voucher, values, action="PURCHASE", details=details)
    if work.claim:
        await work.claim.attach(session, row.id)
    else:
        await writes.send()
    voucher = detached(Voucher, row.values)
    if order.session_order is not None:
        voucher = await purchase_holds.hold_session(session, row.id, order.session_order)
    return PendingSale(voucher, parties, is_new=True)


def _decline(charge: Charge) -> AppError:
    failure = charge.failure
    if failure is not None and failure.code == payments_client.CARD_TOKEN_UNKNOWN:
        return CardTokenUnknown()
    if failure is not None and failure.code == payments_client.CARDS_NOT_AVAILABLE:
        return CardsNotAvailable()
    return PaymentDeclined((failure and failure.message) or "")
