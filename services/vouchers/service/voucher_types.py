"""Use cases of voucher types: list, create, change, take on and off sale, delete."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import OrganizationNotFound, VoucherTypeNotFound
from services.vouchers.models import AccountMode, Frequency, OrganizationCopy, VoucherType
from services.vouchers.schemas.booking_policy import fault_of_policy
from services.vouchers.schemas.voucher_types import (
    VoucherTypeCreate,
    fault_of_days,
    fault_of_price,
    fault_of_validity,
)
from services.vouchers.service.booking_settings import policy_of, settings_of
from services.vouchers.service.remote_copies import RemoteCopies
from shared.actors import Actor
from shared.changes import record
from shared.clients import ServiceClients
from shared.errors import Invalid
from shared.paging import Page
from shared.preconditions import Precondition
from shared.reads import Document, Reader
from shared.tenancy import all_tenants
from shared.work import Work

_OF_VALIDITY = ("price", "validity_days", "least_validity_months", "least_validity_years")


async def list_available(
    reader: Reader, actor: Actor, page: Page, accounts: AccountMode, organization_id: int | None
) -> bytes:
    """Return a page of the voucher types that the actor can buy now as JSON, newest first.

    Members of an organization buy from it alone; all others buy from any organization.
    """
    own = None
    if policies.can_see_all_offers(actor):
        reader = all_tenants(reader)
    else:
        own = actor.organization_id
    return await queries.page_of_offers(reader, page, accounts, requested=organization_id, own=own)


async def list_voucher_types(
    reader: Reader,
    actor: Actor,
    page: Page,
    organization_id: int,
    *,
    is_active: bool | None,
) -> bytes:
    """Return a page of an organization's voucher types as JSON, newest first.

    Raises OrganizationNotFound.
    """
    access.require_member(actor, organization_id)
    return await queries.page_of_voucher_types(reader, page, organization_id, is_active=is_active)


async def get_voucher_type(
    reader: Reader, actor: Actor, organization_id: int, voucher_type_id: int
) -> Document:
    """Return a voucher type as JSON; raises OrganizationNotFound or VoucherTypeNotFound."""
    access.require_member(actor, organization_id)
    document = await queries.find_voucher_type(reader, organization_id, voucher_type_id)
    if document is None:
        raise VoucherTypeNotFound
    return document


async def get_managed_organization(
    work: Work, actor: Actor, clients: ServiceClients, organization_id: int
) -> OrganizationCopy:
    """Return the organization that a new voucher type is for, from its owner if there is no copy.

    Calls another service, so no transaction may be open. Raises OrganizationNotFound, Forbidden,
    ServiceUnavailable.
    """
    access.require_voucher_type_manager(actor, organization_id)
    copies = RemoteCopies(clients, work.origin, work.begin)
    organization = await copies.find_organization(organization_id)
    if organization is None:
        raise OrganizationNotFound
    return organization


async def create(
    session: AsyncSession, actor: Actor, organization: OrganizationCopy, body: VoucherTypeCreate
) -> VoucherType:
    """Put a new voucher type on sale, in the organization's currency unless another is named.

    Raises OrganizationNotFound, Forbidden, and Invalid for a price that the currency does not have
    a booking policy by which no session can be booked, or a validity that is shorter than the least
    one.
    """
    access.require_voucher_type_manager(actor, organization.id)
    fields = body.fields()
    fields["currency"] = fields["currency"] or organization.currency
    _require_payable(fields["price"], fields["currency"])
    await _require_bookable(session, organization.id, fields["booking_policy"])
    _require_valid_long_enough(fields)
    voucher_type = VoucherType(organization_id=organization.id, is_active=True, **fields)
    session.add(voucher_type)
    record(session, "CREATE", voucher_type)
    await session.flush()
    return voucher_type


async def update(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    voucher_type_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> VoucherType:
    """Change a voucher type; sold vouchers keep their terms.

    Raises OrganizationNotFound, Forbidden, VoucherTypeNotFound, StaleVersion, and Invalid when
    frequency and days, price and currency, or validity and least validity do not agree, or by the
    booking policy no session can be booked.
    """
    voucher_type = await _lock(session, actor, organization_id, voucher_type_id, precondition)
    _require_payable(
        changes.get("price", voucher_type.price), changes.get("currency", voucher_type.currency)
    )
    _require_valid_long_enough(
        {name: getattr(voucher_type, name) for name in _OF_VALIDITY} | changes
    )
    frequency = changes.get("frequency", voucher_type.frequency)
    if "custom_days" not in changes and frequency != Frequency.CUSTOM:
        # The days belong to the frequency `custom` only.
        changes = changes | {"custom_days": None}
    if fault := fault_of_days(frequency, changes.get("custom_days", voucher_type.custom_days)):
        raise Invalid("custom_days", fault)
    await _require_bookable(session, organization_id, changes.get("booking_policy", {}))
    for name, value in changes.items():
        setattr(voucher_type, name, value)
    if session.is_modified(voucher_type):
        record(session, "UPDATE", voucher_type)
        await session.flush()
    return voucher_type


async def activate(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    voucher_type_id: int,
    precondition: Precondition,
) -> VoucherType:
    """Put a voucher type on sale again, if it is not.

    Raises OrganizationNotFound, Forbidden, VoucherTypeNotFound, StaleVersion.
    """
    voucher_type = await _lock(session, actor, organization_id, voucher_type_id, precondition)
    if not voucher_type.is_active:
        voucher_type.activate()
        record(session, "ACTIVATE", voucher_type)
        await session.flush()
    return voucher_type


async def deactivate(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    voucher_type_id: int,
    precondition: Precondition,
) -> VoucherType:
    """Take a voucher type off sale at once; sold vouchers stay valid.

    Raises OrganizationNotFound, Forbidden, VoucherTypeNotFound, StaleVersion.
    """
    voucher_type = await _lock(session, actor, organization_id, voucher_type_id, precondition)
    await _take_off_sale(session, voucher_type)
    return voucher_type


async def delete(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    voucher_type_id: int,
    precondition: Precondition,
) -> None:
    """Delete a voucher type that was never sold; take any other off sale permanently.

    The lock prevents a purchase between the check and the deletion. Raises OrganizationNotFound,
    Forbidden, VoucherTypeNotFound, StaleVersion.
    """
    voucher_type = await _lock(session, actor, organization_id, voucher_type_id, precondition)
    if await queries.has_vouchers(session, voucher_type):
        await _take_off_sale(session, voucher_type)
        return
    await session.delete(voucher_type)
    record(session, "DELETE", voucher_type)


async def _lock(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    voucher_type_id: int,
    precondition: Precondition,
) -> VoucherType:
    access.require_voucher_type_manager(actor, organization_id)
    voucher_type = await queries.lock_voucher_type(session, organization_id, voucher_type_id)
    precondition.check(voucher_type.version)
    return voucher_type


def _require_payable(price: Decimal, currency: str) -> None:
    if fault := fault_of_price(price, currency):
        raise Invalid("price", fault)


async def _require_bookable(
    session: AsyncSession, organization_id: int, policy: dict[str, Any]
) -> None:
    """Raise Invalid if no session can be booked by a policy and that of the organization.

    An empty one is that of the organization, which was checked when it was set.
    """
    if not policy:
        return
    effective = policy_of(await settings_of(session, organization_id), policy)
    if fault := fault_of_policy(effective):
        raise Invalid("booking_policy.closes_minutes", fault)


def _require_valid_long_enough(terms: Mapping[str, Any]) -> None:
    if fault := fault_of_validity(*(terms[name] for name in _OF_VALIDITY)):
        raise Invalid(*fault)


async def _take_off_sale(session: AsyncSession, voucher_type: VoucherType) -> None:
    if voucher_type.is_active:
        voucher_type.deactivate()
        record(session, "DEACTIVATE", voucher_type)
        await session.flush()
