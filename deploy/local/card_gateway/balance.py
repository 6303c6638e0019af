"""Balance transactions, their fees, and the balance: https://docs.stripe.com/api/balance.

Amounts are minor units. Each currency has a balance of its own, as if the account had a bank
account in each: nothing is converted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.local.card_gateway.call import APPLICATION, Call
from deploy.local.card_gateway.parameters import Currency, ListParameters, Parameters
from deploy.local.card_gateway.store import Resource

FIXED_FEE = 30
DISPUTE_FEE = 1500
DAYS_PENDING = 2
_DAY = 86_400
# https://docs.stripe.com/reports/reporting-categories
_CATEGORIES = {
    "application_fee": "platform_earning",
    "application_fee_refund": "platform_earning_refund",
    "payout_failure": "payout_reversal",
    "payout_cancel": "payout_reversal",
}


@dataclass(frozen=True)
class Fee:
    """A part of the fee of a balance transaction; negative if it is returned."""

    kind: str
    amount: int
    description: str

    def body(self, currency: str) -> Resource:
        """Return it as Stripe describes it."""
        return {
            "amount": self.amount,
            "application": APPLICATION if self.kind == "application_fee" else None,
            "currency": currency,
            "description": self.description,
            "type": self.kind,
        }


def processing_fee(amount: int) -> Fee:
    """Return Stripe's fee of a payment: 2.9 % and 30 cents, rounded half up to a whole cent."""
    return Fee("stripe_fee", (amount * 29 + 500) // 1000 + FIXED_FEE, "Stripe processing fees")


def application_fee(amount: int) -> Fee:
    """Return the platform's fee of a payment, or of a refund if the amount is negative."""
    return Fee("application_fee", amount, f"{APPLICATION} application fee")


def record(
    call: Call,
    kind: str,
    source: Resource,
    amount: int,
    *,
    fees: Sequence[Fee] = (),
    category: str | None = None,
    is_available: bool = False,
) -> Resource:
    """Store a change of the balance and return its balance transaction."""
    fee, currency = sum(each.amount for each in fees), source["currency"]
    fields = {
        "amount": amount,
        "available_on": call.now if is_available else call.now + DAYS_PENDING * _DAY,
        "balance_type": "payments",
        "currency": currency,
        "description": source.get("description"),
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [each.body(currency) for each in fees],
        "net": amount - fee,
        "reporting_category": category or _CATEGORIES.get(kind, kind),
        "source": source["id"],
        "status": "available" if is_available else "pending",
        "type": kind,
        "_payout": None,
    }
    return call.create("txn", "balance_transaction", fields)


def mature(call: Call, *, at_once: bool = False) -> None:
    """Make pending transactions available whose day has come, or all of them."""
    call.store.connection.execute(
        "UPDATE objects SET body = json_set(body, '$.status', 'available',"
        " '$.available_on', min(json_extract(body, '$.available_on'), :now))"
        " WHERE book = :book AND kind = 'balance_transaction'"
        " AND json_extract(body, '$.status') = 'pending'"
        " AND (:at_once OR json_extract(body, '$.available_on') <= :now)",
        {"book": call.book, "now": call.now, "at_once": at_once},
    )


def sums(call: Call, status: str) -> dict[str, int]:
    """Return the sum of all transactions with a status, by currency."""
    rows = call.store.connection.execute(
        "SELECT json_extract(body, '$.currency'), sum(json_extract(body, '$.net')) FROM objects"
        " WHERE book = ? AND kind = 'balance_transaction' AND json_extract(body, '$.status') = ?"
        " GROUP BY 1 ORDER BY 1",
        (call.book, status),
    )
    return {str(currency): int(net) for currency, net in rows}


_UNPAID = (
    "book = :book AND kind = 'balance_transaction' AND json_extract(body, '$.status') = 'available'"
    " AND json_extract(body, '$.currency') = :currency AND json_extract(body, '$._payout') IS NULL"
)


def unpaid_sum(call: Call, currency: str) -> int:
    """Return the sum of the available transactions that are a part of no automatic payout."""
    [net] = call.store.connection.execute(
        f"SELECT coalesce(sum(json_extract(body, '$.net')), 0) FROM objects WHERE {_UNPAID}",  # noqa: S608 - ours
        {"book": call.book, "currency": currency},
    ).fetchone()
    return int(net)


def assign_unpaid(call: Call, currency: str, payout: str) -> None:
    """Make the available transactions that are a part of no automatic payout parts of this one."""
    call.store.connection.execute(
        f"UPDATE objects SET body = json_set(body, '$._payout', :payout) WHERE {_UNPAID}",  # noqa: S608
        {"book": call.book, "currency": currency, "payout": payout},
    )


class TransactionList(ListParameters):
    """GET /v1/balance_transactions."""

    currency: Currency | None = None
    payout: str | None = None
    source: str | None = None
    type: str | None = None


def retrieve_balance(call: Call, _: Parameters, __: str) -> Resource:
    """Return the balance of these books."""
    mature(call)
    amounts = {status: sums(call, status) for status in ("available", "pending")}
    currencies = sorted({*amounts["available"], *amounts["pending"]})
    return {
        "object": "balance",
        "livemode": False,
        **{
            status: [
                {
                    "amount": amounts[status].get(currency, 0),
                    "currency": currency,
                    "source_types": {"card": amounts[status].get(currency, 0)},
                }
                for currency in currencies
            ]
            for status in amounts
        },
    }


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return a balance transaction."""
    mature(call)
    return call.get("balance_transaction", identifier)


def list_all(call: Call, body: TransactionList, _: str) -> Resource:
    """List balance transactions: of a payout that was automatic those that it consists of."""
    mature(call)
    if body.payout:
        call.get("payout", body.payout, "payout")
    return call.page(
        "balance_transaction",
        "/v1/balance_transactions",
        body.query(),
        currency=body.currency,
        source=body.source,
        type=body.type,
        _payout=body.payout,
    )
