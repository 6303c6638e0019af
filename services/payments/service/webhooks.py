"""Webhooks: verified, stored, answered; then read and entered into the state machine.

The request only stores. What a webhook says is dealt with by the worker, as often as it takes.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.errors import WebhookNotVerified
from services.payments.gateways import Gateways
from services.payments.gateways.protocol import (
    DisputeReport,
    Notice,
    OnlineGateway,
    RefundReport,
    Report,
    WebhookRefused,
)
from services.payments.models import PaymentTransaction, WebhookEvent, WebhookOutcome
from services.payments.service import disputes, payments, refunds
from services.payments.telemetry import WEBHOOKS
from shared.db import now
from shared.failpoints import failpoint
from shared.transactions import Transactions

log = structlog.get_logger(__name__)

BATCH = 100
FORGOTTEN_AT_ONCE = 1000
MAX_ATTEMPTS = 12
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=5)


def verified(gateway: OnlineGateway, body: bytes, headers: Mapping[str, str]) -> Notice:
    """Return whose webhook this is, and make sure that it can be read; raises
    WebhookNotVerified."""
    try:
        notice = gateway.verify(body, headers, now())
        gateway.read(body)
    except WebhookRefused as refusal:
        log.warning("webhook_refused", gateway=gateway.name, cause=str(refusal))
        raise WebhookNotVerified from refusal
    return notice


async def store(session: AsyncSession, gateway: str, notice: Notice, body: bytes) -> bool:
    """Keep a webhook as it came; False when its event is known, whatever its signature's age."""
    statement = (
        insert(WebhookEvent)
        .values(
            gateway=gateway,
            event_id=notice.event_id,
            type=notice.type,
            body=body,
            signed_at=notice.signed_at,
        )
        .on_conflict_do_nothing(index_elements=["gateway", "event_id"])
        .returning(WebhookEvent.id)
    )
    return await session.scalar(statement) is not None


async def process_waiting(transactions: Transactions, gateways: Gateways) -> None:
    """Deal with every webhook that is due."""
    while True:
        async with transactions.system() as session:
            waiting = await queries.list_waiting_webhooks(session, gateways.names, now(), BATCH)
        for webhook_id in waiting:
            await _process(transactions, gateways, webhook_id)
        if len(waiting) < BATCH:
            return


async def _process(transactions: Transactions, gateways: Gateways, webhook_id: int) -> None:
    try:
        async with transactions.system() as session:
            event = await session.get_one(WebhookEvent, webhook_id)
            gateway = gateways.online(event.gateway)
            report = gateway.read(event.body) if gateway and event.body else None
        if gateway and isinstance(report, Report):
            report = await _with_refunds(transactions, gateway, report)
        failpoint("webhook.read")
        async with transactions.system() as session:
            waiting = await queries.lock_waiting_webhook(session, webhook_id)
            if waiting is not None:
                changed = await enter(session, gateway, report) if gateway and report else False
                _finish(waiting, WebhookOutcome.APPLIED if changed else WebhookOutcome.UNCHANGED)
    except Exception as error:
        log.error("webhook_failed", webhook_id=webhook_id, exc_info=error)
        async with transactions.system() as session:
            waiting = await queries.lock_waiting_webhook(session, webhook_id)
            if waiting is not None:
                _postpone(waiting)


async def _with_refunds(
    transactions: Transactions, gateway: OnlineGateway, report: Report
) -> Report:
    """Return a report with the refunds that its sum is made of; raises GatewayUnavailable."""
    if report.refunds is not None:
        return report
    async with transactions.system() as session:
        if await find_payment(session, gateway, report) is None:
            return report
    return replace(report, refunds=tuple(await gateway.refunds_of(report.gateway_id)))


async def enter(
    session: AsyncSession, gateway: OnlineGateway, report: Report | RefundReport | DisputeReport
) -> bool:
    """Enter what a gateway says of its own accord; say whether it changed anything."""
    if isinstance(report, DisputeReport):
        return await _enter_dispute(session, gateway, report)
    if isinstance(report, RefundReport):
        return await refunds.enter(session, gateway.name, report)
    payment = await find_payment(session, gateway, report)
    if payment is None:
        return False
    before = payment.version
    if payment.gateway_transaction_id is None and report.captured > 0 and payment.is_unfinished:
        payment.gateway_transaction_id = report.gateway_id
    if payment.gateway_transaction_id == report.gateway_id:
        await payments.settle(session, payment, report, live=gateway.live)
        for refund in report.refunds or ():
            await refunds.settle(session, payment, refund)
    elif report.captured > 0 and payment.is_unfinished:
        reason = "an intent took money that was never written down for this payment"
        payments.quarantine(session, payment, reason, report.captured)
    await session.flush()
    return payment.version != before


async def _enter_dispute(
    session: AsyncSession, gateway: OnlineGateway, report: DisputeReport
) -> bool:
    payment = await queries.lock_payment_by_gateway_id(session, gateway.name, report.payment_id)
    if payment is None:
        return False
    return await disputes.settle(session, payment, report, live=gateway.live)


async def find_payment(
    session: AsyncSession, gateway: OnlineGateway, report: Report
) -> PaymentTransaction | None:
    """Return the payment that a report is about, locked, or None when it is not one of ours."""
    found = await queries.lock_payment_by_gateway_id(session, gateway.name, report.gateway_id)
    if found is None and report.transaction_id is not None:
        return await queries.lock_payment_of_gateway(session, gateway.name, report.transaction_id)
    return found


def _finish(event: WebhookEvent, outcome: WebhookOutcome) -> None:
    event.outcome = outcome
    event.next_attempt_at = None
    WEBHOOKS.labels(event.gateway, outcome).inc()


def _postpone(event: WebhookEvent) -> None:
    event.attempts += 1
    if event.attempts >= MAX_ATTEMPTS:
        log.error("webhook_given_up", gateway=event.gateway, event_id=event.event_id)
        _finish(event, WebhookOutcome.GIVEN_UP)
        return
    event.next_attempt_at = now() + min(FIRST_PAUSE * 2**event.attempts, LONGEST_PAUSE)


async def forget_bodies(transactions: Transactions, kept_for: timedelta) -> int:
    """Forget the bodies of webhooks that were dealt with and are older; return how many.

    A body holds a payer's name and address and parts of a card's number. Id, type and outcome
    stay: a repetition after years is still known as one.
    """
    before, forgotten = now() - kept_for, 0
    while True:
        async with transactions.system() as session:
            number = await queries.delete_webhook_bodies(session, before, FORGOTTEN_AT_ONCE)
        forgotten += number
        if number < FORGOTTEN_AT_ONCE:
            break
    if forgotten:
        log.info("webhook_bodies_forgotten", number=forgotten)
    return forgotten
