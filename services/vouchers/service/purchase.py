"""Buying a voucher: a pending voucher, a charge outside of any transaction, and its outcome.

1. One transaction makes the pending voucher and its event, from which payments can make the
payment if the call never comes. 2. The call charges it, once per voucher. 3. A second transaction
applies the answer, or the consumer of payments' events does: whoever comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.errors import (
    ClientInactive,
    ClientNotFound,
    OrganizationInactive,
    PaymentDeclined,
    VoucherCancelled,
    VoucherTypeNotFound,
    VoucherTypeNotSold,
)
from services.vouchers.models import (
    ClientCopy,
    OrganizationCopy,
    PaymentStatus,
    Voucher,
    VoucherCode,
    VoucherStatus,
    VoucherType,
)
from services.vouchers.service import charges, settlement
from services.vouchers.service.calendar import day_in
from services.vouchers.service.charges import Charge
from services.vouchers.service.copies import Directory
from shared.auth import Actor
from shared.changes import record
from shared.clients import ServiceClients
from shared.db import now
from shared.errors import Invalid
from shared.routing import Work
from shared.tenancy import EVERYTHING, Tenant


@dataclass(frozen=True, slots=True)
class Order:
    """Who buys what, and how it is paid. With `members_only` the client must belong to the
    organization; without, whoever belongs to none may buy as well."""

    voucher_type_id: int
    client_id: int
    payment_method: str
    payment_token: str | None = None
    notes: str | None = None
    members_only: bool = False


@dataclass(frozen=True, slots=True)
class Sale:
    """What came of an order."""

    voucher: Voucher
    codes: Sequence[VoucherCode]
    charge: Charge


def directory_of(work: Work, clients: ServiceClients) -> Directory:
    """Return the copies, with calls to their owners on behalf of this request."""
    return Directory(clients, work.origin, lambda: work.begin(EVERYTHING))


async def buy(
    work: Work, clients: ServiceClients, actor: Actor, order: Order, organization_id: int | None
) -> Sale:
    """Sell a voucher, in one organization or, with None, in whichever offers the type.

    Raises VoucherTypeNotFound, VoucherTypeNotSold, OrganizationInactive, ClientNotFound,
    ClientInactive, PaymentDeclined, VoucherCancelled (it was cancelled while it was being paid),
    Invalid (a card token that is none) and ServiceUnavailable; after the last one the same
    Idempotency-Key goes on from where this attempt ended.
    """
    directory = directory_of(work, clients)
    voucher = await _begun(work)
    if voucher is None:
        voucher = await _begin(work, directory, actor, order, organization_id)
    try:
        charge = await _charge(work, clients, directory, voucher, order.payment_token)
    except charges.ChargeRefused as refusal:
        await _give_up(work, voucher)
        raise Invalid(refusal.field, refusal.message) from None
    return await _conclude(work, voucher, charge)


async def _begun(work: Work) -> Voucher | None:
    """Return what an interrupted attempt with the same Idempotency-Key has made, or None.

    Raises VoucherCancelled when somebody has ended it since: it must not be charged any more.
    """
    if work.claim is None or work.claim.resource_id is None:
        return None
    async with work.begin(EVERYTHING) as session:
        voucher = await queries.get_voucher(session, work.claim.resource_id)
    if voucher.status == VoucherStatus.CANCELLED and voucher.payment_status != PaymentStatus.FAILED:
        raise VoucherCancelled
    return voucher


async def _begin(
    work: Work,
    directory: Directory,
    actor: Actor,
    order: Order,
    organization_id: int | None,
) -> Voucher:
    async with work.begin(EVERYTHING) as session:
        kind = await _offered(session, actor, order.voucher_type_id, organization_id)
    organization = await directory.find_organization(kind.organization_id)
    if organization is None or not organization.is_active:
        raise OrganizationInactive
    client = await _buyer(directory, order, organization)
    async with work.begin(Tenant(organization.id, client.id)) as session:
        voucher = await _sell(session, order, organization, client)
        if work.claim:
            await work.claim.attach(session, voucher.id)
    return voucher


async def _offered(
    session: AsyncSession, actor: Actor, voucher_type_id: int, organization_id: int | None
) -> VoucherType:
    """Return the type if it is offered to the actor: to strangers another's does not exist."""
    kind = await queries.find_voucher_type(session, voucher_type_id)
    wanted = organization_id
    if wanted is None and not policies.can_see_all_offers(actor) and not actor.is_admin:
        wanted = actor.organization_id
    if kind is None or wanted not in (None, kind.organization_id):
        raise VoucherTypeNotFound
    return kind


async def _buyer(directory: Directory, order: Order, organization: OrganizationCopy) -> ClientCopy:
    client = await directory.find_client(order.client_id, organization.id)
    homes = (organization.id,) if order.members_only else (organization.id, None)
    if client is None or client.organization_id not in homes:
        raise ClientNotFound
    if not client.is_active:
        raise ClientInactive
    return client


async def _sell(
    session: AsyncSession, order: Order, organization: OrganizationCopy, client: ClientCopy
) -> Voucher:
    kind = await queries.hold_voucher_type(session, order.voucher_type_id)
    if not kind.is_active:
        raise VoucherTypeNotSold
    voucher = Voucher.sold(
        kind,
        client_id=client.id,
        purchase_date=day_in(organization.timezone, now()),
        payment_method=order.payment_method,
        notes=order.notes,
    )
    session.add(voucher)
    record(
        session,
        "PURCHASE",
        voucher,
        buyer=charges.buyer_of(client),
        seller=charges.seller_of(organization),
    )
    await session.flush()
    return voucher


async def _charge(
    work: Work,
    clients: ServiceClients,
    directory: Directory,
    voucher: Voucher,
    payment_token: str | None,
) -> Charge:
    assert voucher.client_id is not None
    organization = await directory.find_organization(voucher.organization_id)
    client = await directory.find_client(voucher.client_id, voucher.organization_id)
    if organization is None:
        raise OrganizationInactive
    if client is None:
        raise ClientNotFound
    buyer, seller = charges.buyer_of(client), charges.seller_of(organization)
    order = charges.order_of(voucher, buyer, seller, payment_token)
    return await charges.charge(clients, work.origin, order)


async def _give_up(work: Work, voucher: Voucher) -> None:
    async with work.begin(Tenant(voucher.organization_id, voucher.client_id)) as session:
        await settlement.settle(session, voucher.id, settlement.Outcome("failed"))


async def _conclude(work: Work, voucher: Voucher, charge: Charge) -> Sale:
    outcome = settlement.Outcome(charge.status, charge.invoice_number, charge.completed_at)
    async with work.begin(Tenant(voucher.organization_id, voucher.client_id)) as session:
        settled = await settlement.settle(session, voucher.id, outcome)
        codes = await queries.codes_of(session, settled)
    if charge.status == "failed":
        raise PaymentDeclined((charge.failure and charge.failure.message) or "")
    if settled.status == VoucherStatus.CANCELLED:
        raise VoucherCancelled
    return Sale(settled, codes, charge)
