"""Giving money back: promised in our books, made at the gateway, written down as made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import structlog

from services.payments import queries
from services.payments.gateways import Gateways
from services.payments.gateways.protocol import (
    Gateway,
    GatewayRefused,
    GatewayUnavailable,
    RefundOrder,
    RefundOutcome,
    RefundReport,
)
from services.payments.models import RefundStatus
from services.payments.service import refunds
from services.payments.service.charges import Begin
from shared.db import now
from shared.failpoints import failpoint

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A refund that nobody else is working on, of a payment that brought in `captured`.

    `made_as` is the gateway's id of one that was made already and is on its way.
    """

    gateway: str
    payment_id: int
    gateway_id: str | None
    made_as: str | None
    order: RefundOrder
    captured: Decimal


@dataclass(frozen=True, slots=True)
class RefundDesk:
    """Gives money back: our books on the one side, the gateways on the other."""

    begin: Begin
    gateways: Gateways

    async def carry_on(self, refund_id: int, *, untouched_since: datetime | None = None) -> None:
        """Make a promised refund, once; what cannot be known now is left to the reconciler."""
        attempt = await self._attempt(refund_id, untouched_since)
        if attempt is None:
            return
        failpoint("refund.begun")
        try:
            report = await self._report(attempt)
        except GatewayUnavailable as error:
            log.warning("gateway_unavailable", step="refund", cause=str(error))
        except GatewayRefused as refusal:
            await self._refused(attempt, refusal)
        else:
            failpoint("refund.made")
            async with self.begin() as session:
                payment = await queries.lock_payment(session, attempt.payment_id)
                await refunds.settle(session, payment, report)
            failpoint("refund.entered")

    async def _attempt(self, refund_id: int, untouched_since: datetime | None) -> Attempt | None:
        """Take a refund; None when it is made, or somebody else is at it."""
        async with self.begin() as session:
            refund = await queries.lock_refund(session, refund_id)
            if refund is None or refund.status != RefundStatus.PENDING:
                return None
            before = refund.attempted_at
            if before is not None and (untouched_since is None or before >= untouched_since):
                return None
            payment = await queries.get_payment(session, refund.transaction_id)
            refund.attempted_at = now()
            return Attempt(
                gateway=refund.payment_gateway,
                payment_id=payment.id,
                gateway_id=payment.gateway_transaction_id,
                made_as=refund.gateway_refund_id,
                order=refund.order(),
                captured=payment.captured_amount,
            )

    async def _report(self, attempt: Attempt) -> RefundReport:
        """Return what became of a refund at the gateway, where it is made unless it was before.

        Raises GatewayUnavailable and GatewayRefused.
        """
        gateway = self.gateways.named(attempt.gateway)
        known = await self._known(gateway, attempt)
        made = _made(attempt, known)
        if made is not None:
            return made
        if attempt.made_as is not None:
            raise GatewayUnavailable(f"{attempt.made_as} is not among the payment's refunds")
        return await self._make(gateway, attempt, known)

    @staticmethod
    async def _known(gateway: Gateway, attempt: Attempt) -> Sequence[RefundReport]:
        if attempt.gateway_id is None:
            return []
        try:
            return await gateway.refunds_of(attempt.gateway_id)
        except GatewayRefused as refusal:
            if attempt.made_as is None:
                raise
            # The gateway had both once: its money may be on its way, and would go back twice.
            raise GatewayUnavailable(f"{attempt.made_as} is not known any more") from refusal

    @staticmethod
    async def _make(
        gateway: Gateway, attempt: Attempt, known: Sequence[RefundReport]
    ) -> RefundReport:
        """Give it back, unless the console has given back so much that too little is left."""
        gone = sum((r.amount for r in known if r.outcome is not RefundOutcome.FAILED), Decimal(0))
        if gone + attempt.order.amount > attempt.captured:
            raise GatewayRefused(refunds.EXCEEDS)
        return await gateway.refund(attempt.gateway_id, attempt.order)

    async def _refused(self, attempt: Attempt, refusal: GatewayRefused) -> None:
        async with self.begin() as session:
            payment = await queries.lock_payment(session, attempt.payment_id)
            refund = await queries.lock_refund(session, attempt.order.refund_id)
            if refund is not None and refund.status == RefundStatus.PENDING:
                await refunds.fail(session, payment, refund, refusal.failure)


def _made(attempt: Attempt, known: Sequence[RefundReport]) -> RefundReport | None:
    """Return the refund as the gateway lists it: one that is on its way, perhaps made at its own
    console and without an id of ours, or one that an interrupted attempt has made.

    A gateway's idempotency keys last a day at most, and not every gateway has them.
    """
    if attempt.made_as is not None:
        return next((r for r in known if r.gateway_id == attempt.made_as), None)
    return next((r for r in known if r.refund_id == attempt.order.refund_id), None)
