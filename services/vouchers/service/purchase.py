"""Buying a voucher: a pending voucher, a charge outside of any transaction, and its outcome.

1. One transaction makes the pending voucher and its event, from which payments can make the
payment if the call never comes. 2. The call charges it, once per voucher. 3. A second transaction
applies the answer, or the consumer of payments' events does: whoever comes first.
"""

from dataclasses import dataclass
from typing import TypeGuard

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.errors import (
    CardTokenUnknown,
    ClientInactive,
    ClientNotFound,
    OrganizationInactive,
    PaymentDeclined,
    VoucherCancelled,
    VoucherTypeChanged,
    VoucherTypeNotFound,
    VoucherTypeNotSold,
)
from services.vouchers.models import (
    ClientCopy,
    OrganizationCopy,
    PaymentStatus,
    Voucher,
    VoucherStatus,
    VoucherType,
)
from services.vouchers.service import payments_client, settlement
from services.vouchers.service.calendar import day_in
from services.vouchers.service.payments_client import Charge
from services.vouchers.service.remote_copies import RemoteCopies
from shared.actors import Actor
from shared.changes import record
from shared.clients import ServiceClients
from shared.db import now
from shared.errors import AppError, Invalid
from shared.failpoints import failpoint
from shared.tenancy import EVERYTHING, Tenant, limit_to
from shared.work import Work


@dataclass(frozen=True, slots=True)
class Order:
    """Who buys what, and how it is paid. With `members_only` the client must belong to the
    organization; without, whoever belongs to none may buy as well. With `type_version` the type is
    sold as that version has it, or not at all."""

    voucher_type_id: int
    client_id: int
    payment_method: str
    payment_token: str | None = None
    notes: str | None = None
    members_only: bool = False
    type_version: int | None = None


@dataclass(frozen=True, slots=True)
class Parties:
    """Who sells and who buys."""

    organization: OrganizationCopy
    client: ClientCopy

    @property
    def tenant(self) -> Tenant:
        """What the transactions of a sale may see."""
        return Tenant(self.organization.id, self.client.id)


@dataclass(frozen=True, slots=True)
class Sale:
    """What came of an order."""

    voucher: Voucher
    codes: queries.Rows
    charge: Charge


async def buy(
    work: Work, clients: ServiceClients, actor: Actor, order: Order, organization_id: int | None
) -> Sale:
    """Sell a voucher, in one organization or, with None, in whichever offers the type.

    Raises VoucherTypeNotFound, VoucherTypeNotSold, VoucherTypeChanged, OrganizationInactive,
    ClientNotFound, ClientInactive, PaymentDeclined, CardTokenUnknown, VoucherCancelled (it was
    cancelled while it was being paid), Invalid (payments accepts less than we do) and
    ServiceUnavailable; after the last one the same Idempotency-Key goes on from where this attempt
    ended.
    """
    remote_copies = RemoteCopies(clients, work.origin, lambda: work.begin(EVERYTHING))
    begun = await _begun(work) or await _begin(work, remote_copies, actor, order, organization_id)
    voucher, parties = begun
    failpoint("purchase.begun")
    try:
        charge = await _charge(work, clients, voucher, parties, order.payment_token)
    except payments_client.ChargeRefused as refusal:
        await _give_up(work, voucher, parties)
        raise Invalid(refusal.field, refusal.message) from None
    failpoint("purchase.charged")
    return await _conclude(work, voucher, parties, charge)


async def _begun(work: Work) -> tuple[Voucher, Parties] | None:
    """Return what an interrupted attempt with the same Idempotency-Key has made, or None.

    Raises VoucherCancelled when somebody has ended it since: it must not be charged any more.
    """
    if work.claim is None or work.claim.resource_id is None:
        return None
    async with work.begin(EVERYTHING) as session:
        voucher = await queries.get_voucher(session, work.claim.resource_id)
        organization = await queries.get_organization(session, voucher.organization_id)
        client = await queries.get_client(session, voucher.client_id)
    if voucher.status == VoucherStatus.CANCELLED and voucher.payment_status != PaymentStatus.FAILED:
        raise VoucherCancelled
    return voucher, Parties(organization, client)


async def _begin(
    work: Work, remote_copies: RemoteCopies, actor: Actor, order: Order, organization_id: int | None
) -> tuple[Voucher, Parties]:
    """Sell in one transaction; in a second one, if our copies would make us refuse."""
    async with work.begin(EVERYTHING) as session:
        offer = await _offered(session, actor, order, organization_id)
        if _is_open(offer.organization) and _may_buy(offer.client, order, offer.type):
            parties = Parties(offer.organization, offer.client)
            await limit_to(session, parties.tenant)
            return await _sell(work, session, order, offer.type, parties), parties
    parties = Parties(
        await _open_organization(remote_copies, offer), await _buyer(remote_copies, order, offer)
    )
    async with work.begin(parties.tenant) as session:
        offer = await queries.hold_offer(session, order.voucher_type_id, order.client_id)
        return await _sell(work, session, order, offer.type, parties), parties


async def _offered(
    session: AsyncSession, actor: Actor, order: Order, organization_id: int | None
) -> queries.Offer:
    """Return the type if it is offered to the actor: to strangers another's does not exist."""
    offer = await queries.hold_offer(session, order.voucher_type_id, order.client_id)
    wanted = organization_id or (None if actor.is_admin else actor.organization_id)
    if wanted not in (None, offer.type.organization_id):
        raise VoucherTypeNotFound
    return offer


def _is_open(organization: OrganizationCopy | None) -> TypeGuard[OrganizationCopy]:
    return organization is not None and organization.is_active


def _may_buy(client: ClientCopy | None, order: Order, kind: VoucherType) -> TypeGuard[ClientCopy]:
    return _belongs(client, order, kind) and client.is_active


def _belongs(client: ClientCopy | None, order: Order, kind: VoucherType) -> TypeGuard[ClientCopy]:
    homes = (kind.organization_id,) if order.members_only else (kind.organization_id, None)
    return client is not None and client.organization_id in homes


async def _open_organization(remote_copies: RemoteCopies, offer: queries.Offer) -> OrganizationCopy:
    copy = offer.organization
    if not _is_open(copy):
        copy = await remote_copies.fetch_organization(offer.type.organization_id)
    if not _is_open(copy):
        raise OrganizationInactive
    return copy


async def _buyer(remote_copies: RemoteCopies, order: Order, offer: queries.Offer) -> ClientCopy:
    copy = offer.client
    if not _may_buy(copy, order, offer.type):
        copy = await remote_copies.fetch_client(order.client_id)
    if not _belongs(copy, order, offer.type):
        raise ClientNotFound
    if not copy.is_active:
        raise ClientInactive
    return copy


async def _sell(
    work: Work, session: AsyncSession, order: Order, kind: VoucherType, parties: Parties
) -> Voucher:
    if not kind.is_active:
        raise VoucherTypeNotSold
    if order.type_version not in (None, kind.version):
        raise VoucherTypeChanged
    voucher = Voucher.sold(
        kind,
        client_id=parties.client.id,
        purchase_date=day_in(parties.organization.timezone, now()),
        payment_method=order.payment_method,
        notes=order.notes,
    )
    session.add(voucher)
    record(
        session,
        "PURCHASE",
        voucher,
        buyer=payments_client.buyer_of(parties.client),
        seller=payments_client.seller_of(parties.organization),
    )
    await session.flush()
    if work.claim:
        await work.claim.attach(session, voucher.id)
    return voucher


async def _charge(
    work: Work,
    clients: ServiceClients,
    voucher: Voucher,
    parties: Parties,
    payment_token: str | None,
) -> Charge:
    buyer = payments_client.buyer_of(parties.client)
    seller = payments_client.seller_of(parties.organization)
    order = payments_client.order_of(voucher, buyer, seller, payment_token)
    return await payments_client.charge(clients, work.origin, order)


def _refusal(charge: Charge) -> AppError:
    failure = charge.failure
    if failure is not None and failure.code == payments_client.CARD_TOKEN_UNKNOWN:
        return CardTokenUnknown()
    return PaymentDeclined((failure and failure.message) or "")


async def _give_up(work: Work, voucher: Voucher, parties: Parties) -> None:
    async with work.begin(parties.tenant) as session:
        await settlement.settle(session, voucher.id, settlement.Outcome("failed"))


async def _conclude(work: Work, voucher: Voucher, parties: Parties, charge: Charge) -> Sale:
    outcome = settlement.Outcome(charge.status, charge.invoice_number, charge.completed_at)
    async with work.begin(parties.tenant) as session:
        settled = await settlement.settle(session, voucher.id, outcome)
        codes = await queries.codes_of(session, settled)
    failpoint("purchase.settled")
    if charge.status == "failed":
        raise _refusal(charge)
    if settled.status == VoucherStatus.CANCELLED:
        raise VoucherCancelled
    return Sale(settled, codes, charge)
