"""Stripe's payouts and balance transactions: https://docs.stripe.com/payouts/reconciliation."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from stripe import RequestOptions, StripeClient, StripeError
from stripe.params import BalanceTransactionListParams

from services.payments.gateways.minor_units import from_minor
from services.payments.gateways.payout_protocol import (
    BalanceLine,
    LineKind,
    PayoutReport,
    PayoutStatus,
)
from services.payments.gateways.protocol import GatewayAccount
from services.payments.gateways.stripe_errors import unavailable
from services.payments.gateways.stripe_http import options_of

PAGE = 100

# https://docs.stripe.com/reports/balance-transaction-types
_KINDS: Mapping[str, LineKind] = {
    "charge": LineKind.PAYMENT,
    "payment": LineKind.PAYMENT,
    "refund": LineKind.REFUND,
    "payment_refund": LineKind.REFUND,
    "refund_failure": LineKind.REFUND_RETURN,
    "payment_failure_refund": LineKind.REFUND_RETURN,
    "payout": LineKind.PAYOUT,
    "payout_cancel": LineKind.PAYOUT_RETURN,
    "payout_failure": LineKind.PAYOUT_RETURN,
    "stripe_fee": LineKind.GATEWAY_FEE,
    "stripe_fx_fee": LineKind.GATEWAY_FEE,
    "tax_fee": LineKind.GATEWAY_FEE,
}
_DISPUTE_CATEGORIES = frozenset({"dispute", "dispute_reversal"})
_STATUS: Mapping[str, PayoutStatus] = {
    "in_transit": PayoutStatus.IN_TRANSIT,
    "paid": PayoutStatus.PAID,
    "failed": PayoutStatus.FAILED,
    "canceled": PayoutStatus.CANCELLED,
}


class StripePayouts:
    """The part of Stripe's gateway that reads payouts of connected accounts."""

    _stripe: StripeClient

    async def look_up_payout(self, account: GatewayAccount, gateway_id: str) -> PayoutReport:
        """Read a payout and its balance transactions; raises GatewayUnavailable."""
        options = options_of(account)
        try:
            payout = await self._stripe.v1.payouts.retrieve_async(gateway_id, options=options)
            fields = payout.to_dict()
            lines: list[BalanceLine] = []
            if fields["automatic"]:
                query: BalanceTransactionListParams = {"payout": gateway_id}
                lines = [line async for line in self._lines(query, options)]
        except StripeError as error:
            raise unavailable(error) from error
        return report_of_payout(fields, account, tuple(reversed(lines)))

    async def payouts_since(
        self, account: GatewayAccount, instant: datetime
    ) -> AsyncIterator[PayoutReport]:
        """Yield Stripe's own list of an account's payouts; raises GatewayUnavailable."""
        try:
            page = await self._stripe.v1.payouts.list_async(
                {"limit": PAGE, "created": {"gte": int(instant.timestamp())}}, options_of(account)
            )
            async for payout in page.auto_paging_iter():
                yield report_of_payout(payout.to_dict(), account)
        except StripeError as error:
            raise unavailable(error) from error

    async def balance_since(
        self, account: GatewayAccount, instant: datetime
    ) -> AsyncIterator[BalanceLine]:
        """Yield an account's balance transactions; raises GatewayUnavailable."""
        query: BalanceTransactionListParams = {"created": {"gte": int(instant.timestamp())}}
        try:
            async for line in self._lines(query, options_of(account)):
                yield line
        except StripeError as error:
            raise unavailable(error) from error

    async def _lines(
        self, query: BalanceTransactionListParams, options: RequestOptions
    ) -> AsyncIterator[BalanceLine]:
        page = await self._stripe.v1.balance_transactions.list_async(
            {**query, "limit": PAGE, "expand": ["data.source"]}, options
        )
        async for transaction in page.auto_paging_iter():
            yield line_of(transaction.to_dict())


def report_of_payout(
    payout: Mapping[str, Any], account: GatewayAccount, lines: tuple[BalanceLine, ...] = ()
) -> PayoutReport:
    """Return the report of a payout."""
    currency, arrival = str(payout["currency"]).upper(), payout.get("arrival_date")
    return PayoutReport(
        gateway_id=str(payout["id"]),
        account=str(account.id),
        status=_STATUS.get(str(payout["status"]), PayoutStatus.PENDING),
        amount=from_minor(int(payout["amount"]), currency),
        currency=currency,
        is_automatic=bool(payout["automatic"]),
        is_listed=payout.get("reconciliation_status") == "completed",
        initiated_at=_instant(payout["created"]),
        arrival_date=_instant(arrival).date() if arrival else None,
        failure_code=payout.get("failure_code"),
        failure_message=payout.get("failure_message"),
        live=bool(payout.get("livemode")),
        lines=lines,
    )


def line_of(transaction: Mapping[str, Any]) -> BalanceLine:
    """Return a balance transaction whose source is expanded."""
    currency, source = str(transaction["currency"]).upper(), transaction.get("source")
    fields = source if isinstance(source, Mapping) else {"id": source}
    details = transaction.get("fee_details") or ()
    platform_fee = sum(int(part["amount"]) for part in details if part["type"] == "application_fee")
    return BalanceLine(
        gateway_id=str(transaction["id"]),
        kind=_kind_of(transaction),
        currency=currency,
        amount=from_minor(int(transaction["amount"]), currency),
        gateway_fee=from_minor(int(transaction["fee"]) - platform_fee, currency),
        platform_fee=from_minor(platform_fee, currency),
        net=from_minor(int(transaction["net"]), currency),
        occurred_at=_instant(transaction["created"]),
        source_id=fields.get("id"),
        payment_id=fields.get("payment_intent"),
    )


def _kind_of(transaction: Mapping[str, Any]) -> LineKind:
    if transaction.get("reporting_category") in _DISPUTE_CATEGORIES:
        return LineKind.DISPUTE
    return _KINDS.get(str(transaction["type"]), LineKind.OTHER)


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
