"""Money that goes from hand to hand or by bank: staff say when it came, and give it back."""

from services.payments.gateways.protocol import RefundOrder, RefundOutcome, RefundReport

BY_HAND = "manual"


def handed_over(order: RefundOrder, gateway_id: str | None = None) -> RefundReport:
    """Report that staff gave money back from hand to hand or by bank."""
    return RefundReport(
        gateway_id=f"{BY_HAND}-{order.refund_id}",
        outcome=RefundOutcome.SUCCEEDED,
        amount=order.amount,
        currency=order.currency,
        refund_id=order.refund_id,
        payment_id=gateway_id,
    )


class ManualGateway:
    """Cash and bank transfers: nothing is asked of anybody, so nothing can be unknown."""

    name = BY_HAND

    async def refund(self, gateway_id: str | None, order: RefundOrder) -> RefundReport:
        """Note that staff give the money back; they record it when they do."""
        return handed_over(order, gateway_id)

    async def refunds_of(self, gateway_id: str) -> list[RefundReport]:
        """Return nothing: our own books are the only ones."""
        return []

    async def aclose(self) -> None:
        """Have nothing to close."""


def open_gateway() -> ManualGateway:
    """Return the gateway, as its environment describes it."""
    return ManualGateway()
