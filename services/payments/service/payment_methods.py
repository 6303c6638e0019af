"""The methods of payment of an organization, with what a payer's browser needs for them."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, policies, queries
from services.payments.gateways import (
    ACCOUNT_CANNOT_CHARGE,
    BrowserGateway,
    ConnectingGateway,
    Failure,
    Gateways,
    OnlineGateway,
)
from services.payments.models import Method
from services.payments.service import payment_accounts
from services.payments.service.account_connections import problem_of
from shared.actors import Actor

_NO_ACCOUNT = (
    "The organization has connected no account at the payment gateway. Connect one to take cards."
)


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """A method of payment; `account`, `live` and `publishable_key` are of its online gateway."""

    method: Method
    gateway: str
    available: bool
    online: bool = False
    publishable_key: str | None = None
    account: str | None = None
    live: bool | None = None
    reason: Failure | None = None


async def list_methods(
    session: AsyncSession, actor: Actor, gateways: Gateways, organization_id: int
) -> list[PaymentMethod]:
    """Return every method of payment of an organization, available or not.

    Raises OrganizationNotFound for users of other organizations.
    """
    access.require_member(actor, organization_id)
    return [
        await _method_of(session, actor, gateways, organization_id, method) for method in Method
    ]


async def _method_of(
    session: AsyncSession, actor: Actor, gateways: Gateways, organization_id: int, method: Method
) -> PaymentMethod:
    name = gateways.for_method(method).name
    gateway = gateways.online(name)
    if gateway is None:
        return PaymentMethod(method, name, available=True)
    charging = await payment_accounts.find_charging_account(
        session, gateways, gateway, organization_id
    )
    reason = None
    if charging is None:
        reason = await _reason(session, actor, gateway, organization_id)
    return PaymentMethod(
        method,
        name,
        available=charging is not None,
        online=True,
        publishable_key=gateway.publishable_key if isinstance(gateway, BrowserGateway) else None,
        account=charging.account.id if charging else None,
        live=gateway.live,
        reason=reason,
    )


async def _reason(
    session: AsyncSession, actor: Actor, gateway: OnlineGateway, organization_id: int
) -> Failure:
    """Return why cards are not available: to staff what is missing, to others only the fact."""
    if not policies.can_view_payments(actor, organization_id):
        return ACCOUNT_CANNOT_CHARGE
    account = await queries.find_latest_account(session, gateway.name, organization_id)
    problem = _NO_ACCOUNT
    if account is not None and isinstance(gateway, ConnectingGateway):
        problem = problem_of(account, gateway) or ACCOUNT_CANNOT_CHARGE.message
    return Failure(ACCOUNT_CANNOT_CHARGE.code, problem)
