"""Queries of saved cards."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, bindparam, case, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import SavedCardNotFound
from services.payments.models import CardStatus, SavedCard
from services.payments.schemas import SavedCardRead
from shared.paging import Page
from shared.reads import JsonQuery, Reader


async def get_saved_card(session: AsyncSession, card_id: int) -> SavedCard:
    """Return a saved card; raises SavedCardNotFound."""
    card = await session.get(SavedCard, card_id)
    if card is None:
        raise SavedCardNotFound
    return card


async def lock_saved_card(session: AsyncSession, card_id: int) -> SavedCard:
    """Return a saved card, locked for a change; raises SavedCardNotFound."""
    card = await session.get(SavedCard, card_id, with_for_update=True, populate_existing=True)
    if card is None:
        raise SavedCardNotFound
    return card


async def find_saved_card_by_setup(
    session: AsyncSession, gateway: str, setup_id: str
) -> SavedCard | None:
    """Return the card that a gateway stores by this attempt, locked, or None."""
    statement = select(SavedCard).where(
        SavedCard.payment_gateway == gateway, SavedCard.gateway_setup == setup_id
    )
    return await session.scalar(statement.with_for_update())


async def find_customer(session: AsyncSession, card: SavedCard) -> str | None:
    """Return the gateway's customer of an earlier card of the same client and account, or None."""
    statement = (
        select(SavedCard.gateway_customer)
        .where(
            SavedCard.client_id == card.client_id,
            SavedCard.organization_id == card.organization_id,
            SavedCard.payment_gateway == card.payment_gateway,
            SavedCard.gateway_account.is_not_distinct_from(card.gateway_account),
            SavedCard.gateway_customer.is_not(None),
        )
        .order_by(SavedCard.id)
        .limit(1)
    )
    return await session.scalar(statement)


async def lock_cards_of_client(session: AsyncSession, client_id: int) -> Sequence[SavedCard]:
    """Return a client's cards, locked in the order of their ids."""
    statement = (
        select(SavedCard)
        .where(SavedCard.client_id == client_id)
        .order_by(SavedCard.id)
        .with_for_update()
    )
    return (await session.scalars(statement)).all()


async def lock_unfinished_cards(
    session: AsyncSession, gateways: Sequence[str], checked_before: datetime, limit: int
) -> Sequence[SavedCard]:
    """Return cards that wait for a gateway and are due for a check, locked, longest first."""
    statuses = (CardStatus.PENDING, CardStatus.REQUIRES_ACTION)
    statement = (
        select(SavedCard)
        .where(
            or_(
                SavedCard.status.in_(statuses),
                and_(SavedCard.status == CardStatus.REMOVED, SavedCard.detached_at.is_(None)),
            ),
            SavedCard.payment_gateway.in_(gateways),
            SavedCard.checked_at < checked_before,
        )
        .order_by(SavedCard.checked_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(statement)).all()


_LIST = JsonQuery(
    SavedCardRead,
    select().select_from(SavedCard).where(SavedCard.status != CardStatus.REMOVED),
    {
        **SavedCard.__table__.columns,
        "next_action": case((SavedCard.client_id == bindparam("viewer_id"), SavedCard.next_action)),
    },
    filters={
        "client_id": SavedCard.client_id == bindparam("client_id"),
        "organization_id": SavedCard.organization_id == bindparam("organization_id"),
    },
    order=(SavedCard.id,),
)


async def page_of_saved_cards(
    reader: Reader,
    page: Page,
    viewer_id: int,
    *,
    client_id: int | None,
    organization_id: int | None,
) -> bytes:
    """Return a page of cards that are not removed as JSON, newest first."""
    return await _LIST.page(
        reader, page, viewer_id=viewer_id, client_id=client_id, organization_id=organization_id
    )
