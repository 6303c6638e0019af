"""Queries of webhooks."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import (
    WebhookEvent,
)

_WAITING_WEBHOOKS = (
    select(WebhookEvent.id)
    .where(
        WebhookEvent.next_attempt_at <= bindparam("moment"),
        WebhookEvent.gateway.in_(bindparam("gateways", expanding=True)),
    )
    .order_by(WebhookEvent.next_attempt_at, WebhookEvent.id)
    .limit(bindparam("limit"))
)


async def list_waiting_webhooks(
    session: AsyncSession, gateways: Sequence[str], moment: datetime, limit: int
) -> Sequence[int]:
    """Return the ids of these gateways' webhooks that are due, oldest first."""
    parameters = {"gateways": gateways, "moment": moment, "limit": limit}
    return (await session.scalars(_WAITING_WEBHOOKS, parameters)).all()


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
