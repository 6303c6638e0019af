"""Staff connect the account of their organization at a gateway, and disconnect it.

No transaction is open while the gateway is called, and every step can be repeated: an interrupted
request is continued by the next one.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, queries
from services.payments.errors import (
    GATEWAY_SILENT,
    InstallationAccountUsed,
    PaymentAccountCountryFixed,
    PaymentAccountGone,
    PaymentAccountInUse,
    PaymentAccountNotDisconnected,
    PaymentAccountNotFound,
    PaymentAccountOfOtherMode,
)
from services.payments.events import announce_account
from services.payments.gateways import (
    AccountLink,
    AccountMode,
    AccountNotAccessible,
    CannotDisconnect,
    ConnectingGateway,
    GatewayRefused,
    Gateways,
    GatewayUnavailable,
)
from services.payments.models import AccountStatus, PaymentAccount
from services.payments.schemas.accounts import (
    PaymentAccountConnect,
)
from services.payments.service.account_creation import create_account, refused
from services.payments.service.account_states import NOT_ACCESSIBLE, SOON, end_account
from shared.actors import Actor
from shared.db import now
from shared.errors import Invalid, ServiceUnavailable
from shared.failpoints import failpoint
from shared.work import Work


@dataclass(frozen=True, slots=True)
class ConnectedAccount:
    """An account as staff see it; `problem` is what they must do before it may charge, or None."""

    account: PaymentAccount
    problem: str | None


async def connect_account(
    work: Work,
    actor: Actor,
    gateways: Gateways,
    organization_id: int,
    request: PaymentAccountConnect,
) -> tuple[ConnectedAccount, AccountLink]:
    """Create the organization's account at the gateway, once, and return it with a new link.

    Raises OrganizationNotFound, Forbidden, InstallationAccountUsed, Invalid, ServiceUnavailable,
    PaymentAccountOfOtherMode, PaymentAccountCountryFixed, PaymentAccountRefused and
    PaymentAccountGone.
    """
    access.require_manager(actor, organization_id)
    gateway = _gateway_of(gateways)
    _require_https(gateway, request)
    async with work.begin() as session:
        account = await _open_account(session, gateway, organization_id, request.country)
    failpoint("account.opened")
    try:
        account = await create_account(work.begin, gateway, account.id)
        link = await _link(work, gateway, account, request)
    except GatewayUnavailable as error:
        raise ServiceUnavailable(GATEWAY_SILENT) from error
    failpoint("account.linked")
    return ConnectedAccount(account, problem_of(account, gateway)), link


def _gateway_of(gateways: Gateways) -> ConnectingGateway:
    """Return the gateway at which organizations connect accounts.

    Raises InstallationAccountUsed when the installation charges all on one account.
    """
    connecting = gateways.connecting()
    if gateways.accounts is AccountMode.INSTALLATION or not connecting:
        raise InstallationAccountUsed
    return connecting[0]


def _require_https(gateway: ConnectingGateway, request: PaymentAccountConnect) -> None:
    """Raise Invalid for an address without encryption, which is good enough for tests alone."""
    for name in ("return_url", "refresh_url"):
        url = getattr(request, name)
        if gateway.live and url is not None and not url.lower().startswith("https://"):
            raise Invalid(name, "must begin with https://")


async def _open_account(
    session: AsyncSession, gateway: ConnectingGateway, organization_id: int, country: str | None
) -> PaymentAccount:
    """Return the row of the organization's account, which is new if there was none."""
    await queries.lock_organization_accounts(session, organization_id)
    account = await queries.lock_current_account(session, gateway.name, organization_id)
    if account is None:
        account = PaymentAccount(
            organization_id=organization_id,
            payment_gateway=gateway.name,
            status=AccountStatus.CONNECTING,
            live=gateway.live,
            country=country,
            charges_enabled=False,
            payouts_enabled=False,
            requirements=[],
            refresh_at=now() + SOON,
        )
        session.add(account)
        announce_account(session, "CREATE", account)
    if account.live != gateway.live:
        raise PaymentAccountOfOtherMode(_other_mode(account))
    if country is not None and account.country not in (None, country):
        raise PaymentAccountCountryFixed
    return account


async def _link(
    work: Work,
    gateway: ConnectingGateway,
    account: PaymentAccount,
    request: PaymentAccountConnect,
) -> AccountLink:
    if account.gateway_account is None or account.status == AccountStatus.DISCONNECTED:
        raise PaymentAccountGone
    refresh_url = request.refresh_url or request.return_url
    try:
        return await gateway.link_account(account.gateway_account, request.return_url, refresh_url)
    except AccountNotAccessible as error:
        async with work.begin() as session:
            end_account(session, await queries.lock_account(session, account.id))
        raise PaymentAccountGone from error
    except GatewayRefused as refusal:
        raise refused(refusal) from refusal


async def get_account(
    session: AsyncSession, actor: Actor, gateways: Gateways, organization_id: int
) -> ConnectedAccount:
    """Return the newest account of an organization, also if it is disconnected.

    Raises OrganizationNotFound, Forbidden, InstallationAccountUsed and PaymentAccountNotFound.
    """
    access.require_viewer(actor, organization_id)
    gateway = _gateway_of(gateways)
    account = await queries.find_latest_account(session, gateway.name, organization_id)
    if account is None:
        raise PaymentAccountNotFound
    return ConnectedAccount(account, problem_of(account, gateway))


async def disconnect_account(
    work: Work, actor: Actor, gateways: Gateways, organization_id: int
) -> ConnectedAccount:
    """Disconnect the organization's account: no payment can be made, looked up or refunded there.

    Raises OrganizationNotFound, Forbidden, InstallationAccountUsed, PaymentAccountNotFound,
    PaymentAccountInUse, PaymentAccountNotDisconnected and ServiceUnavailable.
    """
    access.require_manager(actor, organization_id)
    gateway = _gateway_of(gateways)
    async with work.begin() as session:
        account = await queries.lock_current_account(session, gateway.name, organization_id)
        if account is None:
            raise PaymentAccountNotFound
        id_ = account.gateway_account
        if id_ and await queries.has_unfinished_business(session, gateway.name, id_):
            raise PaymentAccountInUse
    if id_ is not None and account.live == gateway.live:
        await _disconnect_at_gateway(gateway, id_)
    failpoint("account.disconnected")
    async with work.begin() as session:
        account = await queries.lock_account(session, account.id)
        end_account(session, account)
    return ConnectedAccount(account, problem_of(account, gateway))


async def _disconnect_at_gateway(gateway: ConnectingGateway, account: str) -> None:
    try:
        await gateway.disconnect_account(account)
    except AccountNotAccessible:
        return  # its owner was faster
    except CannotDisconnect as error:
        raise PaymentAccountNotDisconnected(str(error)) from error
    except GatewayUnavailable as error:
        raise ServiceUnavailable(GATEWAY_SILENT) from error


def problem_of(account: PaymentAccount, gateway: ConnectingGateway) -> str | None:
    """Return the sentence for staff about what an account lacks, or None."""
    if account.status == AccountStatus.DISCONNECTED:
        return "The account is disconnected. Request a link to connect another one."
    if account.live != gateway.live:
        return _other_mode(account)
    if account.gateway_account is None:
        return "The account was not created yet. Request a link to continue."
    reason = account.disabled_reason or ""
    if reason == NOT_ACCESSIBLE:
        return (
            "The payment gateway gives this installation no access to the account. If an owner of"
            " the account has removed the installation there, disconnect it here as well, and"
            " connect another one."
        )
    if reason.startswith("rejected"):
        return (
            f"The payment gateway has rejected the account ({reason}). Only its support can"
            " change that."
        )
    if account.requirements:
        names = ", ".join(account.requirements)
        return f"The payment gateway requires more information: {names}. Request a link to add it."
    if not account.charges_enabled:
        return f"The payment gateway examines the account ({reason or 'no reason given'}). Wait."
    if not account.payouts_enabled:
        return (
            f"The payment gateway pays nothing out ({reason or 'no reason given'}). Sign in there."
        )
    return None


def _other_mode(account: PaymentAccount) -> str:
    modes = ("live", "test") if account.live else ("test", "live")
    return (
        f"The account is of the gateway's {modes[0]} mode and this installation of its {modes[1]}"
        " mode. Disconnect the account and connect another one."
    )
