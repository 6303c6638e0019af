"""Charging: the intent is written down, the gateway is asked, the outcome is written down.

No transaction is open while the gateway is asked, and whatever is interrupted can be carried on:
by the same call again, by the payer, or by the reconciler.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.errors import FirstCardUnderWay, PaymentNotPending
from services.payments.gateways import Gateways
from services.payments.gateways.protocol import (
    Failure,
    GatewayRefused,
    GatewayUnavailable,
    OnlineGateway,
    Order,
    Report,
)
from services.payments.models import PaymentTransaction
from services.payments.schemas import ChargeCreate
from services.payments.service import payments
from services.payments.states import Status
from shared.errors import Invalid, ServiceUnavailable
from shared.failpoints import failpoint

log = structlog.get_logger(__name__)

DROP_SECONDS = 2.0
"""How long an answer that is known already may wait for the closing of its intent."""

CONFIRM_FIRST = (
    "The payer's bank is still asked about the first card: confirm there and call again without a"
    " token. To pay with another card, cancel the voucher and buy it anew."
)

Begin = Callable[[], AbstractAsyncContextManager[AsyncSession]]
"""Opens a transaction that sees the payment."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a locked payment allows: to prepare it with a token, or to confirm what is prepared."""

    gateway: OnlineGateway
    order: Order
    gateway_id: str | None


@dataclass(frozen=True, slots=True)
class Cashier:
    """Takes payments: our books on the one side, the gateways on the other."""

    begin: Begin
    gateways: Gateways

    async def charge(self, body: ChargeCreate) -> int:
        """Charge a voucher, once however often it is called; return the payment's id.

        Raises ChargeDiffers, and ServiceUnavailable when nothing was tried and may be again.
        """
        attempting = body.payment_token is not None
        async with self.begin() as session:
            payment = await payments.open_payment(
                session, self.gateways, body, attempting=attempting
            )
            attempt = self._attempt(session, payment, body.payment_token)
        failpoint("charge.opened")
        await self._make(attempt, body.payment_token)
        return payment.id

    async def confirm(self, payment_id: int, token: SecretStr | None) -> None:
        """Pay a pending payment with a token, or see what the bank's confirmation led to.

        Raises PaymentNotPending, FirstCardUnderWay (another token cannot be used), Invalid (a token
        is needed), ServiceUnavailable.
        """
        async with self.begin() as session:
            payment = await queries.lock_payment(session, payment_id)
            gateway = self.gateways.online(payment.payment_gateway)
        if gateway is None or not payment.is_unfinished:
            raise PaymentNotPending
        if payment.gateway_transaction_id is None and token is None:
            raise Invalid("payment_token", "is needed to pay")
        if payment.void_requested_at is not None and token is not None:
            raise PaymentNotPending
        if payment.status == Status.REQUIRES_ACTION:
            if token is not None:
                raise FirstCardUnderWay(CONFIRM_FIRST)
            await self.catch_up(payment)
        else:
            await self.carry_on(payment_id, token)

    async def carry_on(self, payment_id: int, token: SecretStr | None) -> None:
        """Take a payment as far as it goes now; safe to repeat and to race."""
        async with self.begin() as session:
            payment = await queries.lock_payment(session, payment_id)
            attempt = self._attempt(session, payment, token)
        await self._make(attempt, token)

    async def _make(self, attempt: Attempt | None, token: SecretStr | None) -> None:
        if attempt is None:
            return
        gateway_id = attempt.gateway_id
        if gateway_id is None and token is not None:
            gateway_id = await self._prepare(attempt, token)
        if gateway_id is not None:
            await self._confirm(attempt, gateway_id)

    def _attempt(
        self, session: AsyncSession, payment: PaymentTransaction, token: SecretStr | None
    ) -> Attempt | None:
        """Write down that the gateway is about to be asked; None when there is nothing to ask.

        The payment must be locked.
        """
        gateway = self.gateways.online(payment.payment_gateway)
        waiting = payment.status in (Status.PENDING, Status.PROCESSING)
        prepared = payment.gateway_transaction_id is not None
        if gateway is None or not waiting or payment.void_requested_at is not None:
            return None
        if not prepared and token is None:
            return None
        payments.begin_attempt(session, payment)
        return Attempt(gateway, payment.order(), payment.gateway_transaction_id)

    async def _prepare(self, attempt: Attempt, token: SecretStr) -> str | None:
        """Prepare the payment and write its id down: only what is written down is ever confirmed.

        Of two attempts at once one is written down; the other's intent, with which nothing was
        charged, is cancelled.
        """
        failpoint("charge.before_prepare")
        try:
            report = await attempt.gateway.prepare(attempt.order, token)
        except GatewayRefused as refusal:
            await self._fail(attempt.order.transaction_id, refusal.failure)
            return None
        except GatewayUnavailable as error:
            log.warning("gateway_unavailable", step="prepare", cause=str(error))
            raise ServiceUnavailable("The payment gateway does not answer.") from error
        failpoint("charge.prepared")
        async with self.begin() as session:
            payment = await queries.lock_payment(session, attempt.order.transaction_id)
            if payment.is_unfinished and payment.gateway_transaction_id is None:
                payment.gateway_transaction_id = report.gateway_id
            chosen = payment.gateway_transaction_id
        if chosen != report.gateway_id:
            await self._drop(attempt.gateway, report.gateway_id)
        return chosen

    async def _fail(self, payment_id: int, failure: Failure) -> None:
        async with self.begin() as session:
            payment = await queries.lock_payment(session, payment_id)
            if payment.is_unfinished and payment.gateway_transaction_id is None:
                payments.fail(session, payment, failure)

    async def _confirm(self, attempt: Attempt, gateway_id: str) -> None:
        """Charge it. When the answer is lost nobody knows yet: the reconciler will ask."""
        failpoint("charge.written_down")
        try:
            report = await attempt.gateway.confirm(gateway_id)
        except GatewayUnavailable as error:
            log.warning("gateway_unavailable", step="confirm", cause=str(error))
            return
        failpoint("charge.confirmed")
        await self.enter(attempt.gateway, attempt.order.transaction_id, report)

    async def catch_up(self, payment: PaymentTransaction) -> Report | None:
        """Ask the gateway how a payment stands and enter it; None when it does not answer."""
        gateway = self.gateways.online(payment.payment_gateway)
        if gateway is None or payment.gateway_transaction_id is None:
            return None
        try:
            report = await gateway.look_up(payment.gateway_transaction_id)
        except GatewayUnavailable as error:
            log.warning("gateway_unavailable", step="look_up", cause=str(error))
            return None
        await self.enter(gateway, payment.id, report)
        return report

    async def enter(self, gateway: OnlineGateway, payment_id: int, report: Report) -> None:
        """Enter a gateway's answer; what failed is closed there, so that nobody pays it later."""
        async with self.begin() as session:
            payment = await queries.lock_payment(session, payment_id)
            await payments.settle(session, payment, report, live=gateway.live)
            failed = payment.status == Status.FAILED
        failpoint("charge.entered")
        if failed:
            await self._drop(gateway, report.gateway_id)

    @staticmethod
    async def _drop(gateway: OnlineGateway, gateway_id: str) -> None:
        """Cancel what nobody is to pay. When it fails nothing is lost: money that comes in spite
        of it is reported, and quarantined."""
        with suppress(GatewayUnavailable, TimeoutError):
            async with asyncio.timeout(DROP_SECONDS):
                await gateway.cancel(gateway_id)
