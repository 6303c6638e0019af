"""Money that is paid in cash or by bank transfer: staff record it, and give it back."""

from services.payments.gateways.protocol import (
    GatewayAccount,
    RefundOrder,
    RefundOutcome,
    RefundReport,
)

BY_HAND = "manual"


def handed_over(order: RefundOrder, gateway_id: str | None = None) -> RefundReport:
    """Return the report that staff gave money back in cash or by bank transfer."""
    return RefundReport(
        gateway_id=f"{BY_HAND}-{order.refund_id}",
        outcome=RefundOutcome.SUCCEEDED,
        amount=order.amount,
        currency=order.currency,
        refund_id=order.refund_id,
        payment_id=gateway_id,
        account=order.account.id,
    )


class ManualGateway:
    """Cash and bank transfers: no other system is asked, so no outcome can be unknown."""

    name = BY_HAND

    async def refund(self, gateway_id: str | None, order: RefundOrder) -> RefundReport:
        """Report that staff gave the money back."""
        return handed_over(order, gateway_id)

    async def refunds_of(self, account: GatewayAccount, gateway_id: str) -> list[RefundReport]:
        """Return nothing: our own books are the only ones."""
        return []

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


def open_gateway() -> ManualGateway:
    """Return the gateway, as its environment describes it."""
    return ManualGateway()
