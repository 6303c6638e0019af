"""Payouts of connected accounts: stored as the gateway reports them, compared with our books.

The gateway is asked for the present state of a payout whenever it reports a change, so the order of
its reports does not matter. Each part of a payout is a line that must be in our books with the same
amount, and the payout must be the sum of its lines. A line may arrive before what it is about: it
is compared again until our books have it.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, queries
from services.payments.errors import PayoutNotFound, PayoutsNotAvailable
from services.payments.gateways import (
    AccountMode,
    GatewayAccount,
    Gateways,
    OnlineGateway,
    PayoutGateway,
    PayoutNotice,
    PayoutReport,
    PayoutStatus,
)
from services.payments.models import PaymentAccount, Payout, Reconciliation
from services.payments.queries import PayoutFilter
from services.payments.telemetry import CONTRADICTIONS, PAYOUTS
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.money import CENT
from shared.paging import Page
from shared.reads import Reader
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

UNKNOWN_FOR = timedelta(days=60)
"""How long a line is compared again that our books do not have."""

_ACTIONS = {
    PayoutStatus.PAID: "PAY",
    PayoutStatus.FAILED: "FAIL",
    PayoutStatus.CANCELLED: "CANCEL",
}
_ORDER = list(PayoutStatus)
_COPIED = ("status", "arrival_date", "failure_code", "failure_message")


async def list_payouts(
    reader: Reader,
    actor: Actor,
    gateways: Gateways,
    organization_id: int,
    page: Page,
    only: PayoutFilter,
) -> bytes:
    """Return a page of an organization's payouts as JSON, newest first.

    Raises OrganizationNotFound, Forbidden and PayoutsNotAvailable.
    """
    await _require_payouts(reader, actor, gateways, organization_id)
    return await queries.page_of_payouts(reader, page, organization_id, only)


async def get_payout(
    reader: Reader, actor: Actor, gateways: Gateways, organization_id: int, payout_id: int
) -> bytes:
    """Return a payout with its lines as JSON.

    Raises OrganizationNotFound, Forbidden, PayoutsNotAvailable and PayoutNotFound.
    """
    await _require_payouts(reader, actor, gateways, organization_id)
    document = await queries.find_payout_document(reader, organization_id, payout_id)
    if document is None:
        raise PayoutNotFound
    return document.body


async def get_statement(
    reader: Reader, actor: Actor, gateways: Gateways, organization_id: int, month: str | None
) -> bytes:
    """Return the statement of a month (`2026-11`) as JSON, for each account and currency.

    The month is that of the organization's time zone, by default the present one. Raises
    OrganizationNotFound, Forbidden and PayoutsNotAvailable.
    """
    await _require_payouts(reader, actor, gateways, organization_id)
    zone = await queries.get_time_zone(reader, organization_id)
    month = month or f"{now().astimezone(ZoneInfo(zone)):%Y-%m}"
    year, number = (int(part) for part in month.split("-"))
    first = datetime(year, number, 1, tzinfo=ZoneInfo(zone))
    end = first.replace(year=year + number // 12, month=number % 12 + 1)
    return await queries.list_statement(
        reader, organization_id, month, first.astimezone(UTC), end.astimezone(UTC), zone
    )


async def _require_payouts(
    reader: Reader, actor: Actor, gateways: Gateways, organization_id: int
) -> None:
    access.require_viewer(actor, organization_id)
    if gateways.accounts is AccountMode.ORGANIZATION:
        return
    # The mode may have been another one before.
    if not await queries.has_any_account(reader, organization_id):
        raise PayoutsNotAvailable


async def look_up(
    transactions: Transactions, gateway: OnlineGateway | None, notice: PayoutNotice
) -> PayoutReport | PayoutNotice:
    """Return what the gateway reports of a payout that has changed.

    The notice is returned if it is about no account in our books. Raises GatewayUnavailable.
    """
    if not isinstance(gateway, PayoutGateway) or notice.account is None:
        return notice
    async with transactions.system() as session:
        if not await queries.find_account_by_gateway_id(session, gateway.name, notice.account):
            return notice
    return await gateway.look_up_payout(GatewayAccount(notice.account), notice.gateway_id)


async def apply_payout_report(
    session: AsyncSession, gateway: OnlineGateway, report: PayoutReport
) -> bool:
    """Apply a gateway's report of a payout with its lines; return whether it changed the payout."""
    account = await queries.lock_account_by_gateway_id(session, gateway.name, report.account)
    if account is None:
        return False
    if report.live != gateway.live:
        CONTRADICTIONS.inc()
        log.error("payout_contradicted", account=report.account, payout=report.gateway_id)
        return False
    payout = await queries.lock_payout(session, gateway.name, report.gateway_id)
    before = payout.version if payout else 0
    if payout is None:
        payout = await _create_payout(session, account, report)
    else:
        _update_payout(session, payout, report)
    await queries.store_lines(session, account, report.lines, payout)
    await compare(session, account, payout)
    await session.flush()
    return payout.version != before


async def compare(
    session: AsyncSession, account: PaymentAccount, payout: Payout | None = None
) -> None:
    """Compare an account's unknown lines with our books, and its payouts with their lines.

    The account must be locked. A payout that has new lines is compared as well.
    """
    ids = await queries.match_lines(session, account, now() - UNKNOWN_FOR)
    for each in await queries.lock_payouts(session, ids | ({payout.id} if payout else set())):
        await _reconcile(session, each)


async def _create_payout(
    session: AsyncSession, account: PaymentAccount, report: PayoutReport
) -> Payout:
    payout = Payout(
        organization_id=account.organization_id,
        payment_gateway=account.payment_gateway,
        gateway_account=report.account,
        gateway_payout_id=report.gateway_id,
        amount=report.amount.quantize(CENT),
        currency=report.currency,
        is_automatic=report.is_automatic,
        is_listed=report.is_listed,
        initiated_at=report.initiated_at,
        reconciliation=Reconciliation.PENDING,
        difference=None,
        unknown_lines=0,
        **{name: getattr(report, name) for name in _COPIED},
    )
    session.add(payout)
    await session.flush()
    _record(session, "CREATE", payout)
    _record_status(session, payout, None)
    return payout


def _update_payout(session: AsyncSession, payout: Payout, report: PayoutReport) -> None:
    """Take what has changed; a report that was read before a later one undoes nothing."""
    old = PayoutStatus(payout.status)
    if _ORDER.index(report.status) < _ORDER.index(old):
        return
    differs = any(getattr(payout, name) != getattr(report, name) for name in _COPIED)
    for name in _COPIED:
        setattr(payout, name, getattr(report, name))
    payout.is_listed = payout.is_listed or report.is_listed
    if report.status != old:
        _record_status(session, payout, "UPDATE")
    elif differs:
        _record(session, "UPDATE", payout)


def _record_status(session: AsyncSession, payout: Payout, otherwise: str | None) -> None:
    """Record and count a new status: those that end a payout have events of their own."""
    status = PayoutStatus(payout.status)
    PAYOUTS.labels(status).inc()
    action = _ACTIONS.get(status, otherwise)
    if action is not None:
        _record(session, action, payout)
    if status is PayoutStatus.FAILED:
        log.warning("payout_failed", payout_id=payout.id, code=payout.failure_code)


async def _reconcile(session: AsyncSession, payout: Payout) -> None:
    """Compare a payout with the sum of its lines, and record what has changed."""
    total, unknown = await queries.sum_of_lines(session, payout.id)
    difference = payout.amount - total
    state = _state_of(payout, difference, unknown)
    is_judged = state in (Reconciliation.MATCHED, Reconciliation.MISMATCHED)
    before = (payout.reconciliation, payout.difference, payout.unknown_lines)
    after = (state, difference.quantize(CENT) if is_judged else None, unknown)
    if before == after:
        return
    payout.reconciliation, payout.difference, payout.unknown_lines = after
    _record(
        session,
        "RECONCILE",
        payout,
        reconciliation=state,
        difference=payout.difference,
        unknown_lines=unknown,
    )
    if state is Reconciliation.MISMATCHED and before[0] != state:
        log.error(
            "payout_mismatched", payout_id=payout.id, difference=str(difference), unknown=unknown
        )


def _state_of(payout: Payout, difference: Decimal, unknown: int) -> Reconciliation:
    if not payout.is_automatic:
        return Reconciliation.UNLISTED
    if difference and not payout.is_listed:
        return Reconciliation.PENDING
    return Reconciliation.MISMATCHED if difference or unknown else Reconciliation.MATCHED


def _record(session: AsyncSession, action: str, payout: Payout, **details: object) -> None:
    names = ("gateway_payout_id", "amount", "currency", "status")
    record(session, action, payout, **{name: getattr(payout, name) for name in names}, **details)
