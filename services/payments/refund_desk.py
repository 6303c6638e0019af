"""Giving money back: promised in our books, made at the gateway, written down as made."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from services.payments import queries, refunding
from services.payments.charging import Begin
from services.payments.gateways import Gateways
from services.payments.gateways.protocol import (
    Gateway,
    GatewayRefused,
    GatewayUnavailable,
    RefundOrder,
    RefundReport,
)
from services.payments.models import RefundStatus
from shared.db import now

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A refund that nobody else is working on; `repeated` when somebody has been."""

    gateway: Gateway
    payment_id: int
    gateway_id: str | None
    order: RefundOrder
    repeated: bool


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
        try:
            report = await self._made_before(attempt) or await attempt.gateway.refund(
                attempt.gateway_id, attempt.order
            )
        except GatewayUnavailable as error:
            log.warning("gateway_unavailable", step="refund", cause=str(error))
        except GatewayRefused as refusal:
            await self._refused(attempt, refusal)
        else:
            async with self.begin() as session:
                payment = await queries.lock(session, attempt.payment_id)
                await refunding.settle(session, payment, report)

    async def _attempt(self, refund_id: int, untouched_since: datetime | None) -> Attempt | None:
        """Take a refund; None when it is made, or somebody else is at it."""
        async with self.begin() as session:
            refund = await queries.lock_refund(session, refund_id)
            if refund is None or refund.status != RefundStatus.PENDING:
                return None
            before = refund.attempted_at
            if before is not None and (untouched_since is None or before >= untouched_since):
                return None
            payment = await queries.get(session, refund.transaction_id)
            refund.attempted_at = now()
            return Attempt(
                gateway=self.gateways.named(refund.payment_gateway),
                payment_id=payment.id,
                gateway_id=payment.gateway_transaction_id,
                order=refund.order(),
                repeated=before is not None,
            )

    @staticmethod
    async def _made_before(attempt: Attempt) -> RefundReport | None:
        """Return the refund that an interrupted attempt has made, if it came that far.

        A gateway's idempotency keys last a day at most, and not every gateway has them.
        """
        if not attempt.repeated or attempt.gateway_id is None:
            return None
        made = await attempt.gateway.refunds_of(attempt.gateway_id)
        return next((r for r in made if r.refund_id == attempt.order.refund_id), None)

    async def _refused(self, attempt: Attempt, refusal: GatewayRefused) -> None:
        async with self.begin() as session:
            await queries.lock(session, attempt.payment_id)
            refund = await queries.lock_refund(session, attempt.order.refund_id)
            if refund is not None and refund.status == RefundStatus.PENDING:
                refunding.fail(session, refund, refusal.failure)
