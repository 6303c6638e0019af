"""Webhooks: verified, stored and answered by the API; read and applied by the worker.

The request only stores, and finishes what reports a success that is in our books: most webhooks
arrive after the charge's own answer. The worker applies every other webhook, and retries until it
succeeds or gives up.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import structlog
from anyio import CapacityLimiter
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.errors import GatewayNotFound, WebhookNotVerified
from services.payments.gateways import (
    AccountReport,
    CardReport,
    DisputeReport,
    GatewayAccount,
    Gateways,
    OnlineGateway,
    PaymentOutcome,
    PaymentReport,
    PayoutNotice,
    PayoutReport,
    RefundReport,
    WebhookNotice,
    WebhookRefused,
    WebhookReport,
)
from services.payments.models import (
    ENDED_UNPAID,
    PaymentTransaction,
    WebhookEvent,
    WebhookOutcome,
    row_of,
)
from services.payments.service import (
    account_states,
    disputes,
    payment_accounts,
    payments,
    payouts,
    refunds,
    saved_cards,
)
from services.payments.states import quarantine
from services.payments.telemetry import WEBHOOKS
from shared.db import now
from shared.failpoints import failpoint
from shared.tenancy import see_all_tenants
from shared.transactions import Transactions
from shared.work import Work

log = structlog.get_logger(__name__)

BATCH = 100
BODIES_AT_ONCE = 1000
MAX_ATTEMPTS = 12
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=5)
OTHER_INTENT_PAID = "an intent took money that was never stored for this payment"


async def receive(
    work: Work,
    gateways: Gateways,
    gateway_name: str,
    body: bytes,
    headers: Mapping[str, str],
    limit: CapacityLimiter,
    *,
    connected: bool = False,
) -> bool:
    """Store a gateway's signed webhook; return False when its event was stored before.

    With `connected` it was sent to the address for events of connected accounts.

    `limit` bounds how many are stored at once: a thousand at once must not take the API's
    connections to the database. Raises GatewayNotFound and WebhookNotVerified.
    """
    gateway = gateways.online(gateway_name)
    if gateway is None:
        raise GatewayNotFound
    notice, report = verify(gateway, body, headers, connected=connected)
    async with limit, work.begin() as session:
        await see_all_tenants(session)
        return await store(session, gateway, notice, body, report)


def verify(
    gateway: OnlineGateway, body: bytes, headers: Mapping[str, str], *, connected: bool = False
) -> tuple[WebhookNotice, WebhookReport | None]:
    """Return the identity of a webhook that the gateway signed, and what it reports.

    Raises WebhookNotVerified, also for a webhook that cannot be read.
    """
    try:
        notice = gateway.verify(body, headers, now(), connected=connected)
        report = gateway.read(body)
    except WebhookRefused as refusal:
        log.warning("webhook_refused", gateway=gateway.name, cause=str(refusal))
        raise WebhookNotVerified from refusal
    return notice, report


async def store(
    session: AsyncSession,
    gateway: OnlineGateway,
    notice: WebhookNotice,
    body: bytes,
    report: WebhookReport | None,
) -> bool:
    """Store a webhook as it was received; return False when its event was stored before.

    What our books have already is finished at once. The age of the signature does not matter here.
    """
    row = (
        await session.execute(
            queries.STORE_WEBHOOK,
            {
                "gateway": gateway.name,
                "event_id": notice.event_id,
                "account": notice.account,
                "type": notice.type,
                "body": body,
                "signed_at": notice.signed_at,
                "received_at": now(),
                **_success(gateway, report),
            },
        )
    ).one_or_none()
    if row is not None and row.outcome is not None:
        WEBHOOKS.labels(gateway.name, row.outcome).inc()
    return row is not None


def _success(gateway: OnlineGateway, report: WebhookReport | None) -> dict[str, object]:
    """Return what a payment's row contains if a report of success changes nothing in it.

    Every value is None for a report that the worker must judge.
    """
    if (
        isinstance(report, PaymentReport)
        and report.outcome is PaymentOutcome.SUCCEEDED
        and not report.refunded
        and report.refunds == ()
        and report.live == gateway.live
    ):
        return {
            "payment_id": report.gateway_id,
            "amount": report.amount,
            "captured": report.captured,
            "currency": report.currency,
        }
    return dict.fromkeys(("payment_id", "amount", "captured", "currency"))


async def process_due(transactions: Transactions, gateways: Gateways) -> None:
    """Apply every webhook that is due."""
    while True:
        async with transactions.system() as session:
            ids = await queries.list_waiting_webhooks(session, gateways.names, now(), BATCH)
        for webhook_id in ids:
            try:
                await _process(transactions, gateways, webhook_id)
            except Exception as error:
                log.error("webhook_failed", webhook_id=webhook_id, exc_info=error)
                async with transactions.system() as session:
                    event = await queries.lock_waiting_webhook(session, webhook_id)
                    if event is not None:
                        _postpone(event)
        if len(ids) < BATCH:
            return


async def _process(transactions: Transactions, gateways: Gateways, webhook_id: int) -> None:
    async with transactions.system() as session:
        event = await queries.get_webhook(session, webhook_id)
        gateway = gateways.online(event.gateway)
        report: WebhookReport | PayoutReport | None = None
        if gateway and event.body:
            report = gateway.read(event.body)
    if gateway and isinstance(report, PaymentReport):
        report = await _with_refunds(transactions, gateway, report)
    elif gateway and isinstance(report, CardReport):
        report = await saved_cards.described(transactions.system, gateways, gateway, report)
    elif gateway and isinstance(report, PayoutNotice):
        report = await payouts.look_up(transactions, gateway, report)
    is_applied = False
    if gateway and isinstance(report, AccountReport):
        is_applied = await account_states.apply_account_event(transactions, gateway, report)
    failpoint("webhook.read")
    async with transactions.system() as session:
        waiting = await queries.lock_waiting_webhook(session, webhook_id)
        if waiting is not None:
            if gateway and report and not isinstance(report, AccountReport):
                is_applied = await _apply(session, gateway, report)
            _finish(waiting, WebhookOutcome.APPLIED if is_applied else WebhookOutcome.UNCHANGED)


async def _with_refunds(
    transactions: Transactions, gateway: OnlineGateway, report: PaymentReport
) -> PaymentReport:
    """Return a report with the refunds that its sum consists of; raises GatewayUnavailable."""
    if report.refunds is not None:
        return report
    async with transactions.system() as session:
        if await _find_payment(session, gateway, report) is None:
            return report
    account = GatewayAccount(report.account)
    return replace(report, refunds=tuple(await gateway.refunds_of(account, report.gateway_id)))


async def _apply(
    session: AsyncSession,
    gateway: OnlineGateway,
    report: PaymentReport | RefundReport | DisputeReport | CardReport | PayoutNotice | PayoutReport,
) -> bool:
    """Apply a webhook's report of money or of a card; return whether it changed anything."""
    if isinstance(report, PayoutReport):
        return await payouts.apply_payout_report(session, gateway, report)
    if isinstance(report, PayoutNotice):
        return False  # of an account that is not in our books
    if isinstance(report, DisputeReport):
        return await disputes.apply_dispute_report(session, gateway, report)
    if isinstance(report, CardReport):
        return await saved_cards.apply_card_report(session, gateway, report)
    if isinstance(report, RefundReport):
        return await refunds.apply_unrequested_refund_report(session, gateway.name, report)
    payment = await _find_payment(session, gateway, report)
    if payment is None:
        return False
    before = payment.version
    is_unpaid = payment.is_unfinished or payment.status in ENDED_UNPAID
    if payment.gateway_transaction_id is None and report.captured > 0 and is_unpaid:
        payment.gateway_transaction_id = report.gateway_id
        payment.gateway_account = report.account
        payment.platform_fee = report.fee
    if payment.gateway_transaction_id == report.gateway_id:
        await session.flush()
        if await payments.apply_report(session, row_of(payment), report, live=gateway.live):
            await session.refresh(payment)
        for refund_report in report.refunds or ():
            await refunds.apply_refund_report(session, payment, refund_report)
    elif report.captured > 0 and is_unpaid:
        step = quarantine(OTHER_INTENT_PAID, report.captured)
        await payments.change_payment(session, payment, step)
    elif report.captured > report.refunded:
        payments.report_contradiction(row_of(payment), OTHER_INTENT_PAID)
    await session.flush()
    return payment.version != before


async def _find_payment(
    session: AsyncSession, gateway: OnlineGateway, report: PaymentReport
) -> PaymentTransaction | None:
    """Return the payment that a report is about, locked, or None when it is not one of ours."""
    payment = await queries.lock_payment_by_gateway_id(session, gateway.name, report.gateway_id)
    if payment is not None:
        return payment
    if report.transaction_id is not None:
        payment = await queries.lock_payment_of_gateway(
            session, gateway.name, report.transaction_id
        )
    elif report.voucher_id is not None:
        # An intent that was prepared before its payment had an id.
        payment = await queries.lock_payment_of_voucher(session, report.voucher_id)
    if payment is None or payment.payment_gateway != gateway.name:
        return None
    # The owner of a connected account can write any id into its own intents.
    return payment if await payment_accounts.owns(session, payment, report.account) else None


def _finish(event: WebhookEvent, outcome: WebhookOutcome) -> None:
    event.outcome = outcome
    event.next_attempt_at = None
    WEBHOOKS.labels(event.gateway, outcome).inc()


def _postpone(event: WebhookEvent) -> None:
    """Retry a webhook later, or give it up after MAX_ATTEMPTS attempts."""
    event.attempts += 1
    if event.attempts >= MAX_ATTEMPTS:
        log.error("webhook_given_up", gateway=event.gateway, event_id=event.event_id)
        _finish(event, WebhookOutcome.GIVEN_UP)
        return
    event.next_attempt_at = now() + min(FIRST_PAUSE * 2**event.attempts, LONGEST_PAUSE)


async def delete_bodies(transactions: Transactions, after: timedelta) -> int:
    """Delete the bodies of finished webhooks that are older than `after`; return how many.

    A body holds a payer's name and address and parts of a card's number. Id, type and outcome
    stay: a repetition after years is still recognized.
    """
    before, total = now() - after, 0
    while True:
        async with transactions.system() as session:
            number = await queries.delete_webhook_bodies(session, before, BODIES_AT_ONCE)
        total += number
        if number < BODIES_AT_ONCE:
            break
    if total:
        log.info("webhook_bodies_forgotten", number=total)
    return total
