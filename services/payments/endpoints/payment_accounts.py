"""Routes of an organization's account at the payment gateway."""

from services.payments.endpoints.dependencies import GatewaysDep
from services.payments.endpoints.views import account_read
from services.payments.errors import (
    InstallationAccountUsed,
    OrganizationNotFound,
    PaymentAccountCountryFixed,
    PaymentAccountGone,
    PaymentAccountInUse,
    PaymentAccountNotDisconnected,
    PaymentAccountNotFound,
    PaymentAccountOfOtherMode,
    PaymentAccountRefused,
)
from services.payments.schemas.accounts import (
    PaymentAccountConnect,
    PaymentAccountLinkRead,
    PaymentAccountRead,
)
from services.payments.service import account_connections
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, ServiceUnavailable, Unauthenticated, responses
from shared.fields import Id
from shared.routing import router
from shared.sessions import SessionDep, WorkDep

routes = router(
    prefix="/api/organizations/{organization_id}/payment-account",
    tags=["payments"],
    responses=responses(
        Unauthenticated, Forbidden, OrganizationNotFound, InstallationAccountUsed, Invalid
    ),
)


@routes.post(
    "",
    status_code=201,
    responses=responses(
        PaymentAccountOfOtherMode,
        PaymentAccountCountryFixed,
        PaymentAccountRefused,
        PaymentAccountGone,
        ServiceUnavailable,
    ),
)
async def connect_payment_account(
    organization_id: Id,
    body: PaymentAccountConnect,
    work: WorkDep,
    actor: ActorDep,
    gateways: GatewaysDep,
) -> PaymentAccountLinkRead:
    """Create the organization's account at the payment gateway, once, and a link to its onboarding.

    Repeat it for a new link: each can be opened once and is valid for minutes.
    """
    view, link = await account_connections.connect_account(
        work, actor, gateways, organization_id, body
    )
    return PaymentAccountLinkRead(
        account=account_read(view), url=link.url, expires_at=link.expires_at
    )


@routes.get("", responses=responses(PaymentAccountNotFound))
async def get_payment_account(
    organization_id: Id, session: SessionDep, actor: ActorDep, gateways: GatewaysDep
) -> PaymentAccountRead:
    """Show the organization's account at the payment gateway, and what it lacks."""
    return account_read(
        await account_connections.get_account(session, actor, gateways, organization_id)
    )


@routes.delete(
    "",
    responses=responses(
        PaymentAccountNotFound,
        PaymentAccountInUse,
        PaymentAccountNotDisconnected,
        ServiceUnavailable,
    ),
)
async def disconnect_payment_account(
    organization_id: Id, work: WorkDep, actor: ActorDep, gateways: GatewaysDep
) -> PaymentAccountRead:
    """Disconnect the account: payments made on it cannot be refunded through the gateway then."""
    return account_read(
        await account_connections.disconnect_account(work, actor, gateways, organization_id)
    )
