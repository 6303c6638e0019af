"""Queries of series and of their sessions."""

from collections.abc import Collection, Sequence
from datetime import date, datetime

from sqlalchemy import and_, false, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import SeriesNotFound
from services.vouchers.models import (
    ClassSession,
    SeriesStatus,
    SessionSeries,
    SessionStatus,
)
from services.vouchers.queries.rows import require
from shared.paging import Page


async def get_series(session: AsyncSession, organization_id: int, series_id: int) -> SessionSeries:
    """Return a series of an organization; raises SeriesNotFound."""
    statement = select(SessionSeries).where(
        SessionSeries.organization_id == organization_id, SessionSeries.id == series_id
    )
    return require(await session.scalar(statement), SeriesNotFound)


async def lock_series(session: AsyncSession, organization_id: int, series_id: int) -> SessionSeries:
    """Return a series of an organization, locked for a change; raises SeriesNotFound.

    It is locked before everything else: who waits for it holds no other lock.
    """
    statement = select(SessionSeries).where(
        SessionSeries.organization_id == organization_id, SessionSeries.id == series_id
    )
    return require(await session.scalar(statement.with_for_update(key_share=True)), SeriesNotFound)


async def page_of_series(
    session: AsyncSession,
    page: Page,
    organization_id: int,
    *,
    therapy_class_id: int | None,
    status: str | None,
) -> list[SessionSeries]:
    """Return a page of an organization's series, newest first."""
    statement = select(SessionSeries).where(SessionSeries.organization_id == organization_id)
    if therapy_class_id is not None:
        statement = statement.where(SessionSeries.therapy_class_id == therapy_class_id)
    if status is not None:
        statement = statement.where(SessionSeries.status == status)
    rows = (await session.scalars(page.of(statement, SessionSeries.id))).all()
    return page.cut(rows, lambda row: (row.id,))


async def list_series_to_extend(
    session: AsyncSession, horizon: date, ended_before: date, after_id: int, limit: int
) -> Sequence[int]:
    """Return the ids of active series without sessions up to a day, or that are over."""
    is_short = and_(
        SessionSeries.made_until < horizon,
        or_(SessionSeries.last_date.is_(None), SessionSeries.made_until < SessionSeries.last_date),
    )
    statement = (
        select(SessionSeries.id)
        .where(
            SessionSeries.status == SeriesStatus.ACTIVE,
            SessionSeries.id > after_id,
            or_(is_short, SessionSeries.last_date < ended_before),
        )
        .order_by(SessionSeries.id)
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


async def find_series_to_extend(session: AsyncSession, series_id: int) -> SessionSeries | None:
    """Return an active series, locked, or None if it has ended or is being changed."""
    statement = select(SessionSeries).where(
        SessionSeries.id == series_id, SessionSeries.status == SeriesStatus.ACTIVE
    )
    return await session.scalar(statement.with_for_update(key_share=True, skip_locked=True))


async def sessions_of_series(
    session: AsyncSession, series: SessionSeries, first: date
) -> Sequence[ClassSession]:
    """Return the sessions of a series from a date on, cancelled ones too, by their dates."""
    statement = (
        select(ClassSession)
        .where(ClassSession.series_id == series.id, ClassSession.series_date >= first)
        .order_by(ClassSession.series_date)
    )
    return (await session.scalars(statement)).all()


async def list_sessions_at(
    session: AsyncSession,
    organization_id: int,
    starts: Collection[datetime],
    *,
    capacities: tuple[int, int],
    therapist_id: int | None,
) -> Sequence[ClassSession]:
    """Return scheduled sessions that begin at one of some times, with or without free seats.

    Without those on demand. `capacities` are the least and the greatest number of clients.
    """
    statement = select(ClassSession).where(
        ClassSession.organization_id == organization_id,
        ClassSession.starts_at.in_(starts),
        ClassSession.status == SessionStatus.SCHEDULED,
        ClassSession.on_demand == false(),
        ClassSession.capacity.between(*capacities),
        ClassSession.ends_at.is_not(None),
    )
    if therapist_id is not None:
        statement = statement.where(ClassSession.therapist_id == therapist_id)
    return (await session.scalars(statement.order_by(ClassSession.id))).all()
