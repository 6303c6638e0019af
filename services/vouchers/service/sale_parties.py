"""Who sells a voucher, to which client, and who pays."""

from dataclasses import dataclass
from typing import TypeGuard

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.errors import ClientInactive, ClientNotFound, OrganizationInactive
from services.vouchers.models import (
    AccountMode,
    ClientCopy,
    OrganizationCopy,
    PaymentMethod,
    VoucherType,
)
from services.vouchers.service.purchase_holds import SessionOrder
from services.vouchers.service.remote_copies import RemoteCopies
from shared.errors import Forbidden
from shared.tenancy import Tenant


@dataclass(frozen=True, slots=True)
class PurchaseOrder:
    """What is sold to which client, and how it is paid.

    `buyer_id` is the user who buys for themselves or for a dependant; None if staff issue it or an
    administrator buys. `organization_id` is the only organization that may sell it; None allows
    any. With `members_only` the client must belong to that organization; without, users of no
    organization may buy as well. With `voucher_type_version` the type is sold in that version or
    not at all. `accounts` states whose account a card is charged on. `session_order` is the session
    that is held for the client until the voucher is paid.
    """

    voucher_type_id: int
    organization_id: int | None
    client_id: int
    payment_method: PaymentMethod
    accounts: AccountMode
    buyer_id: int | None = None
    payment_token: str | None = None
    notes: str | None = None
    members_only: bool = False
    voucher_type_version: int | None = None
    session_order: SessionOrder | None = None

    def is_within(self, tenant: Tenant) -> bool:
        """Return whether the tenant sees all rows of the sale: a member buys for itself."""
        return self.organization_id is not None and tenant == Tenant(
            self.organization_id, self.client_id
        )


@dataclass(frozen=True, slots=True)
class SaleParties:
    """The organization that sells, the client, and who pays: the client or their guardian."""

    organization: OrganizationCopy
    client: ClientCopy
    payer: ClientCopy

    @property
    def tenant(self) -> Tenant:
        """The rows that the sale needs. A client may belong to no organization."""
        return Tenant(self.organization.id, self.client.id)


async def fetch_parties(
    copies: RemoteCopies, offer: queries.Offer, order: PurchaseOrder
) -> SaleParties:
    """Return the parties, fetched from their owners where our copies would refuse the sale."""
    organization, client = offer.organization, offer.client
    if not _is_open(organization):
        organization = await copies.fetch_organization(offer.type.organization_id)
    if not _is_open(organization):
        raise OrganizationInactive
    if not (_belongs(client, offer.type, order) and client.is_active):
        client = await copies.fetch_client(order.client_id)
    _require_own(order, client)
    if not _belongs(client, offer.type, order):
        raise ClientNotFound
    if not client.is_active:
        raise ClientInactive
    payer: ClientCopy | None = client
    if client.guardian_id is not None:
        payer = await copies.fetch_client(client.guardian_id)
    if payer is None:
        raise ClientNotFound
    return SaleParties(organization, client, payer)


async def find_parties(
    session: AsyncSession, offer: queries.Offer, order: PurchaseOrder
) -> SaleParties | None:
    """Return our copies of the parties, or None if they do not allow the sale.

    Raises Forbidden.
    """
    organization, client = offer.organization, offer.client
    if client is None:
        return None
    _require_own(order, client)
    if not (_is_open(organization) and _belongs(client, offer.type, order) and client.is_active):
        return None
    payer: ClientCopy | None = client
    if client.guardian_id is not None:
        payer = await queries.find_client(session, client.guardian_id)
    return None if payer is None else SaleParties(organization, client, payer)


def _require_own(order: PurchaseOrder, client: ClientCopy | None) -> None:
    """Raise Forbidden unless the buyer is the client or the client's guardian."""
    if order.buyer_id is None or order.client_id == order.buyer_id:
        return
    if client is None or client.guardian_id != order.buyer_id:
        raise Forbidden("Clients can buy vouchers for themselves and their dependants only.")


def _is_open(organization: OrganizationCopy | None) -> TypeGuard[OrganizationCopy]:
    return organization is not None and organization.is_active


def _belongs(
    client: ClientCopy | None, voucher_type: VoucherType, order: PurchaseOrder
) -> TypeGuard[ClientCopy]:
    """Return whether the client may buy from the organization that offers the type."""
    seller = voucher_type.organization_id
    allowed = (seller,) if order.members_only else (seller, None)
    return client is not None and client.organization_id in allowed
