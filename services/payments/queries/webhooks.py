"""Queries of webhooks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    BindParameter,
    Numeric,
    Table,
    Text,
    bindparam,
    case,
    func,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import PaymentTransaction, Status, WebhookEvent, WebhookOutcome


def _parameter(column: Any) -> BindParameter[Any]:
    return bindparam(column.key, type_=column.type)


_WEBHOOKS = cast(Table, WebhookEvent.__table__)
_PAYMENT = PaymentTransaction
_IS_IN_OUR_BOOKS = (
    select(_PAYMENT.id)
    .where(
        _PAYMENT.status == Status.SUCCEEDED,
        _PAYMENT.payment_gateway == _parameter(WebhookEvent.gateway),
        _PAYMENT.gateway_transaction_id == bindparam("payment_id", type_=Text()),
        _PAYMENT.gateway_account.is_not_distinct_from(_parameter(WebhookEvent.account)),
        _PAYMENT.currency == bindparam("currency", type_=Text()),
        # The columns' own type would round what a gateway reports.
        _PAYMENT.amount == bindparam("amount", type_=Numeric()),
        _PAYMENT.captured_amount == bindparam("captured", type_=Numeric()),
    )
    .exists()
)
_INPUTS = (
    WebhookEvent.gateway,
    WebhookEvent.event_id,
    WebhookEvent.account,
    WebhookEvent.type,
    WebhookEvent.body,
    WebhookEvent.signed_at,
    WebhookEvent.received_at,
)

STORE_WEBHOOK = (
    insert(_WEBHOOKS)
    .from_select(
        [*(column.key for column in _INPUTS), "attempts", "next_attempt_at", "outcome"],
        select(
            *(_parameter(column) for column in _INPUTS),
            literal(0),
            case((~_IS_IN_OUR_BOOKS, _parameter(WebhookEvent.received_at)), else_=null()),
            case((_IS_IN_OUR_BOOKS, WebhookOutcome.UNCHANGED.value), else_=null()),
        ),
    )
    .on_conflict_do_nothing(index_elements=["gateway", "event_id"])
    .returning(_WEBHOOKS.c.id, _WEBHOOKS.c.outcome)
)
"""Stores a webhook, and finishes it if a payment has what the parameters say; one statement."""

_ORDER = (WebhookEvent.next_attempt_at, WebhookEvent.id)
_WAITING_WEBHOOKS = (
    select(WebhookEvent.id)
    .where(
        WebhookEvent.next_attempt_at <= bindparam("moment"),
        WebhookEvent.gateway.in_(bindparam("gateways", expanding=True)),
    )
    .order_by(func.row_number().over(partition_by=WebhookEvent.account, order_by=_ORDER), *_ORDER)
    .limit(bindparam("limit"))
)


async def list_waiting_webhooks(
    session: AsyncSession, gateways: Sequence[str], moment: datetime, limit: int
) -> Sequence[int]:
    """Return the ids of these gateways' webhooks that are due: the oldest of each account first.

    So an account with thousands of them does not delay those of the others.
    """
    parameters = {"gateways": gateways, "moment": moment, "limit": limit}
    return (await session.scalars(_WAITING_WEBHOOKS, parameters)).all()


async def list_known_events(
    session: AsyncSession, gateway: str, event_ids: Sequence[str]
) -> Sequence[str]:
    """Return those ids of a gateway's events that are stored."""
    statement = select(WebhookEvent.event_id).where(
        WebhookEvent.gateway == gateway, WebhookEvent.event_id.in_(event_ids)
    )
    return (await session.scalars(statement)).all()


async def get_webhook(session: AsyncSession, webhook_id: int) -> WebhookEvent:
    """Return a webhook; raises NoResultFound."""
    return await session.get_one(WebhookEvent, webhook_id)


_LOCK_WAITING_WEBHOOK = (
    select(WebhookEvent)
    .where(WebhookEvent.id == bindparam("webhook_id"), WebhookEvent.next_attempt_at.is_not(None))
    .with_for_update(skip_locked=True)
)


async def lock_waiting_webhook(session: AsyncSession, webhook_id: int) -> WebhookEvent | None:
    """Return an unfinished webhook that no other process has locked, locked, or None."""
    return await session.scalar(_LOCK_WAITING_WEBHOOK, {"webhook_id": webhook_id})


async def delete_webhook_bodies(session: AsyncSession, before: datetime, limit: int) -> int:
    """Empty the bodies of some finished webhooks received before an instant; return how many."""
    due = (
        select(WebhookEvent.id)
        .where(
            WebhookEvent.body.is_not(None),
            WebhookEvent.received_at < before,
            WebhookEvent.next_attempt_at.is_(None),
        )
        .limit(limit)
    )
    statement = update(WebhookEvent).where(WebhookEvent.id.in_(due)).values(body=None)
    returning = statement.returning(WebhookEvent.id).execution_options(synchronize_session=False)
    return len((await session.scalars(returning)).all())
