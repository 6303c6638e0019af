"""Queries of webhooks."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.models import (
    WebhookEvent,
)


async def list_waiting_webhooks(
    session: AsyncSession, gateways: Sequence[str], moment: datetime, limit: int
) -> Sequence[int]:
    """Return the ids of these gateways' webhooks that are due, oldest first."""
    statement = (
        select(WebhookEvent.id)
        .where(WebhookEvent.next_attempt_at <= moment, WebhookEvent.gateway.in_(gateways))
        .order_by(WebhookEvent.next_attempt_at, WebhookEvent.id)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


async def get_webhook(session: AsyncSession, webhook_id: int) -> WebhookEvent:
    """Return a webhook; raises NoResultFound."""
    return await session.get_one(WebhookEvent, webhook_id)


async def lock_waiting_webhook(session: AsyncSession, webhook_id: int) -> WebhookEvent | None:
    """Return an unfinished webhook that no other process has locked, locked, or None."""
    statement = select(WebhookEvent).where(
        WebhookEvent.id == webhook_id, WebhookEvent.next_attempt_at.is_not(None)
    )
    return await session.scalar(statement.with_for_update(skip_locked=True))


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
