"""Events of other services, as they publish them, and their delivery to our handlers."""

from typing import Any

from services.vouchers.handlers import QUEUES
from shared import inbox
from shared.consumer import one_by_one
from shared.db import now
from shared.events import Event
from shared.transactions import Transactions

_number = iter(range(1_000_000))


def event(
    kind: str,
    entity_id: int,
    version: int = 1,
    *,
    owner_id: int | None = None,
    **new_values: Any,
) -> Event:
    """Return an event of a type; every one has an id of its own. `owner_id`: an organization."""
    entity = kind.split(".")[1]
    data = {
        "action": "ANY",
        "entity_type": entity,
        "entity_id": entity_id,
        "entity_version": version,
        "organization_id": owner_id,
        "actor": {},
        "correlation_id": "story",
        "old_values": {},
        "new_values": new_values,
    }
    return Event.model_validate(
        {
            "id": f"event-{next(_number)}",
            "source": f"carnet/{kind.partition('.')[0]}",
            "type": kind,
            "time": now(),
            "subject": f"{entity}/{entity_id}",
            "data": data,
        }
    )


def payment(what: str, voucher_id: int, **changes: Any) -> Event:
    """Return an event of payments about a voucher's payment."""
    values: dict[str, Any] = {
        "voucher_id": voucher_id,
        "organization_id": 7,
        "client_id": 21,
        "amount": "399.99",
        "currency": "PLN",
        "payment_method": "credit_card",
        "status": what,
    }
    return event(f"payments.payment.{what}.v1", 500 + voucher_id, **(values | changes))


def refund(voucher_id: int, refunded_amount: str, **changes: Any) -> Event:
    """Return payments' event of a refund; the whole sum is its own unless `amount` is given."""
    values: dict[str, Any] = {
        "voucher_id": voucher_id,
        "amount": refunded_amount,
        "refunded_amount": refunded_amount,
        "quote_id": None,
    }
    return event("payments.refund.succeeded.v1", 900 + voucher_id, **(values | changes))


def refund_failed(voucher_id: int, quote_id: int | None) -> Event:
    """Return payments' event of a refund that was not made."""
    values: dict[str, Any] = {"voucher_id": voucher_id, "quote_id": quote_id}
    return event("payments.refund.failed.v1", 900 + voucher_id, **values)


def dispute(what: str, voucher_id: int, dispute_id: int, status: str) -> Event:
    """Return payments' event of a dispute that was opened or closed."""
    values: dict[str, Any] = {"voucher_id": voucher_id, "status": status}
    return event(f"payments.dispute.{what}.v1", dispute_id, **values)


def payment_account(
    what: str, account_id: int, version: int, organization_id: int, **changes: Any
) -> Event:
    """Return payments' event of an organization's account, which may charge unless changed."""
    values: dict[str, Any] = {
        "status": "connected",
        "charges_enabled": True,
        "live": False,
    }
    kind = f"payments.payment_account.{what}.v1"
    return event(kind, account_id, version, owner_id=organization_id, **(values | changes))


async def deliver(transactions: Transactions, *events: Event) -> None:
    """Deliver each event as a consumer does, in one transaction with its inbox row, and twice."""
    for arrived in [*events, *events]:
        await deliver_once(transactions, arrived)


async def deliver_once(transactions: Transactions, arrived: Event) -> None:
    """Deliver an event to the queue that is bound to it."""
    [(queue, handlers)] = [
        (queue, handlers) for queue, handlers in QUEUES.items() if arrived.type in handlers
    ]
    async with transactions.system(causation=arrived) as session:
        new = await inbox.take(session, queue.name, [arrived])
        await one_by_one(handlers)(session, new)
