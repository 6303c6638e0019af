"""Intents at a gateway: created before their ids are stored, cancelled if nothing needs them."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal

from pydantic import SecretStr

from services.payments.gateways import (
    ACCOUNT_CANNOT_CHARGE,
    ChargeOrder,
    GatewayAccount,
    GatewayRefused,
    GatewayUnavailable,
    OnlineGateway,
    PaymentReport,
)
from shared.failpoints import failpoint

DROP_SECONDS = 2.0
"""How long a known answer may wait for the cancellation of its intent."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a gateway answered when it was to prepare a payment on an account.

    `account` is None when the organization has no account that may charge; the answer is a refusal
    then.
    """

    gateway: OnlineGateway
    account: GatewayAccount | None
    answer: PaymentReport | GatewayRefused | GatewayUnavailable

    @property
    def fee(self) -> Decimal:
        """What the operator takes of the payment, as the gateway has stored it with the intent."""
        return self.answer.fee if isinstance(self.answer, PaymentReport) else Decimal(0)

    @property
    def gateway_id(self) -> str | None:
        """The id of the intent, if there is one."""
        return self.answer.gateway_id if isinstance(self.answer, PaymentReport) else None


async def prepare(gateway: OnlineGateway, order: ChargeOrder, token: SecretStr) -> Preparation:
    """Create an intent; the gateway's errors are returned, as they may concern a later step."""
    failpoint("charge.before_prepare")
    try:
        report = await gateway.prepare(order, token)
    except (GatewayRefused, GatewayUnavailable) as error:
        return Preparation(gateway, order.account, error)
    failpoint("charge.prepared")
    return Preparation(gateway, order.account, report)


def refuse(gateway: OnlineGateway) -> Preparation:
    """Return the refusal of a payment whose organization has no account that may charge."""
    return Preparation(gateway, None, GatewayRefused(ACCOUNT_CANNOT_CHARGE))


async def cancel_if_unused(preparation: Preparation, stored_id: str | None) -> None:
    """Cancel the intent of a voucher whose payment has another, or does not need one any more.

    Two calls with one idempotency key have one intent: it may be the stored one.
    """
    intent_id, account = preparation.gateway_id, preparation.account
    if account is not None and intent_id is not None and intent_id != stored_id:
        await cancel_unused(preparation.gateway, account, intent_id)


async def cancel_unused(gateway: OnlineGateway, account: GatewayAccount, gateway_id: str) -> None:
    """Cancel an intent that must not be paid.

    Nothing is lost when it fails: money that arrives in spite of it is reported and quarantined.
    """
    with suppress(GatewayUnavailable, TimeoutError):
        async with asyncio.timeout(DROP_SECONDS):
            await gateway.cancel(account, gateway_id)
