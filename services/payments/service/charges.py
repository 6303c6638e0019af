"""Charges: the intent is stored, the gateway is asked, the outcome is stored.

No transaction is open while the gateway is asked, and an interrupted charge can be continued:
by the same call again, by the payer, or by the reconciler.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, queries
from services.payments.errors import FirstCardUnderWay, PaymentNotPending
from services.payments.gateways import (
    ChargeOrder,
    GatewayRefused,
    Gateways,
    GatewayUnavailable,
    OnlineGateway,
    PaymentReport,
)
from services.payments.models import PaymentTransaction, Status
from services.payments.queries import NumberedPayment
from services.payments.schemas import ChargeCreate
from services.payments.service import payments
from services.payments.service.payments import PaymentView, view_of
from shared.actors import Actor
from shared.errors import Invalid, ServiceUnavailable
from shared.failpoints import failpoint
from shared.tenancy import see_all_tenants
from shared.work import Work

log = structlog.get_logger(__name__)

DROP_SECONDS = 2.0
"""How long a known answer may wait for the cancellation of its intent."""

CONFIRM_FIRST = (
    "The payer's bank still checks the first card. Confirm there and call again without a token. To"
    " pay with another card, cancel the voucher and buy a new one."
)

Begin = Callable[[], AbstractAsyncContextManager[AsyncSession]]
"""Opens a transaction that sees the payment."""


@dataclass(frozen=True, slots=True)
class ChargeAttempt:
    """What a locked payment allows: to prepare it with a token, or to confirm what is prepared."""

    gateway: OnlineGateway
    order: ChargeOrder
    gateway_id: str | None


async def charge(begin: Begin, gateways: Gateways, terms: ChargeCreate) -> NumberedPayment:
    """Charge a voucher, once however often it is called; return it with its invoice number.

    Raises ChargeDiffers, and ServiceUnavailable when nothing was tried: call again.
    """
    token = terms.payment_token
    async with begin() as session:
        payment = await payments.open_payment(
            session, gateways, terms, attempting=token is not None
        )
        attempt = _begin_attempt(session, gateways, payment, token)
    failpoint("charge.opened")
    await _run_attempt(begin, attempt, token)
    async with begin() as session:
        return await queries.get_payment_with_number(session, payment.id)


async def confirm(
    work: Work, actor: Actor, gateways: Gateways, payment_id: int, token: SecretStr | None
) -> PaymentView:
    """Pay one's own pending payment with a token, or fetch what the bank's confirmation led to.

    Raises PaymentNotFound, Forbidden, and what `confirm_payment` raises.
    """

    @asynccontextmanager
    async def begin() -> AsyncIterator[AsyncSession]:
        # The payer's own rows are not enough: the invoice needs the organization's series.
        async with work.begin() as session:
            await see_all_tenants(session)
            yield session

    async with work.begin() as session:
        access.require_payer(actor, await queries.get_payment(session, payment_id))
    await confirm_payment(begin, gateways, payment_id, token)
    async with work.begin() as session:
        return view_of(actor, await queries.get_payment_with_number(session, payment_id))


async def confirm_payment(
    begin: Begin, gateways: Gateways, payment_id: int, token: SecretStr | None
) -> None:
    """Pay a pending payment with a token, or fetch what the bank's confirmation led to.

    Raises PaymentNotPending, FirstCardUnderWay (another token cannot be used), Invalid (a token
    is needed), ServiceUnavailable.
    """
    async with begin() as session:
        payment = await queries.lock_payment(session, payment_id)
    if gateways.online(payment.payment_gateway) is None or not payment.is_unfinished:
        raise PaymentNotPending
    if payment.gateway_transaction_id is None and token is None:
        raise Invalid("payment_token", "is needed to pay")
    if payment.void_requested_at is not None and token is not None:
        raise PaymentNotPending
    if payment.status == Status.REQUIRES_ACTION:
        if token is not None:
            raise FirstCardUnderWay(CONFIRM_FIRST)
        await refresh(begin, gateways, payment)
        return
    async with begin() as session:
        payment = await queries.lock_payment(session, payment_id)
        attempt = _begin_attempt(session, gateways, payment, token)
    await _run_attempt(begin, attempt, token)


def _begin_attempt(
    session: AsyncSession,
    gateways: Gateways,
    payment: PaymentTransaction,
    token: SecretStr | None,
) -> ChargeAttempt | None:
    """Record that the gateway is about to be asked; return None when there is nothing to ask.

    The payment must be locked.
    """
    gateway = gateways.online(payment.payment_gateway)
    is_waiting = payment.status in (Status.PENDING, Status.PROCESSING)
    if gateway is None or not is_waiting or payment.void_requested_at is not None:
        return None
    if payment.gateway_transaction_id is None and token is None:
        return None
    payments.begin_attempt(session, payment)
    return ChargeAttempt(gateway, payment.order(), payment.gateway_transaction_id)


async def _run_attempt(
    begin: Begin, attempt: ChargeAttempt | None, token: SecretStr | None
) -> None:
    """Take a payment as far as possible now; safe to repeat and to race."""
    if attempt is None:
        return
    gateway_id = attempt.gateway_id
    if gateway_id is None and token is not None:
        gateway_id = await _prepare(begin, attempt, token)
    if gateway_id is None:
        return
    failpoint("charge.written_down")
    try:
        report = await attempt.gateway.confirm(gateway_id)
    except GatewayUnavailable as error:
        # Whether the card was charged is unknown: the reconciler will ask.
        log.warning("gateway_unavailable", step="confirm", cause=str(error))
        return
    failpoint("charge.confirmed")
    await apply_answer(begin, attempt.gateway, attempt.order.transaction_id, report)


async def _prepare(begin: Begin, attempt: ChargeAttempt, token: SecretStr) -> str | None:
    """Prepare the payment at the gateway and store the id: only a stored id is ever confirmed.

    Of two simultaneous attempts one is stored; the other's intent, with which nothing was charged,
    is cancelled. Raises ServiceUnavailable.
    """
    payment_id = attempt.order.transaction_id
    failpoint("charge.before_prepare")
    try:
        report = await attempt.gateway.prepare(attempt.order, token)
    except GatewayRefused as refusal:
        async with begin() as session:
            payment = await queries.lock_payment(session, payment_id)
            if payment.is_unfinished and payment.gateway_transaction_id is None:
                payments.fail_payment(session, payment, refusal.failure)
        return None
    except GatewayUnavailable as error:
        log.warning("gateway_unavailable", step="prepare", cause=str(error))
        raise ServiceUnavailable("The payment gateway does not answer. Try again later.") from error
    failpoint("charge.prepared")
    async with begin() as session:
        payment = await queries.lock_payment(session, payment_id)
        if payment.is_unfinished and payment.gateway_transaction_id is None:
            payment.gateway_transaction_id = report.gateway_id
        stored_id = payment.gateway_transaction_id
    if stored_id != report.gateway_id:
        await _cancel_unused(attempt.gateway, report.gateway_id)
    return stored_id


async def refresh(
    begin: Begin, gateways: Gateways, payment: PaymentTransaction
) -> PaymentReport | None:
    """Fetch a payment's state from its gateway and apply it; None when there is no answer."""
    gateway = gateways.online(payment.payment_gateway)
    if gateway is None or payment.gateway_transaction_id is None:
        return None
    try:
        report = await gateway.look_up(payment.gateway_transaction_id)
    except GatewayUnavailable as error:
        log.warning("gateway_unavailable", step="look_up", cause=str(error))
        return None
    await apply_answer(begin, gateway, payment.id, report)
    return report


async def apply_answer(
    begin: Begin, gateway: OnlineGateway, payment_id: int, report: PaymentReport
) -> None:
    """Apply a gateway's answer; cancel a failed intent there, so that it is not paid later."""
    async with begin() as session:
        payment = await queries.lock_payment(session, payment_id)
        await payments.apply_report(session, payment, report, live=gateway.live)
        has_failed = payment.status == Status.FAILED
    failpoint("charge.entered")
    if has_failed:
        await _cancel_unused(gateway, report.gateway_id)


async def _cancel_unused(gateway: OnlineGateway, gateway_id: str) -> None:
    """Cancel an intent that must not be paid.

    Nothing is lost when it fails: money that arrives in spite of it is reported and quarantined.
    """
    with suppress(GatewayUnavailable, TimeoutError):
        async with asyncio.timeout(DROP_SECONDS):
            await gateway.cancel(gateway_id)
