"""Use cases that read series of sessions, and what of a series is reported."""

from collections.abc import Sequence
from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, queries
from services.vouchers.models import OrganizationCopy, SeriesStatus, SessionSeries
from services.vouchers.scheduling.reasons import in_words
from services.vouchers.schemas.calendars import clock_time_of
from services.vouchers.schemas.series import (
    SeriesConflict,
    SeriesConflictRead,
    SeriesDetail,
    SeriesRead,
)
from services.vouchers.service.series_dates import examine, today_in
from shared.actors import Actor
from shared.paging import Page

_DETAILS = {
    SeriesConflict.NO_SUCH_TIME: "The clock skips this time on {day}.",
    SeriesConflict.CLOSED: "{day} is closed at this time.",
    SeriesConflict.RESOURCE_INACTIVE: "A resource of the series is not in use any more.",
    SeriesConflict.SLOT_TAKEN: "The therapist has another session on {day}.",
    SeriesConflict.ROOM_TAKEN: "A room or equipment is taken on {day}.",
}


async def list_series(
    session: AsyncSession,
    actor: Actor,
    page: Page,
    organization_id: int,
    *,
    therapy_class_id: int | None,
    status: SeriesStatus | None,
) -> list[SeriesRead]:
    """Return a page of an organization's series, newest first.

    Raises OrganizationNotFound or Forbidden.
    """
    access.require_employee(actor, organization_id)
    rows = await queries.page_of_series(
        session, page, organization_id, therapy_class_id=therapy_class_id, status=status
    )
    return await _read(session, organization_id, rows)


async def get_series(
    session: AsyncSession, actor: Actor, organization_id: int, series_id: int
) -> SeriesDetail:
    """Return a series with its conflicts.

    Raises OrganizationNotFound, Forbidden, SeriesNotFound.
    """
    access.require_employee(actor, organization_id)
    return await series_detail(
        session, await queries.get_series(session, organization_id, series_id)
    )


async def series_detail(session: AsyncSession, series: SessionSeries) -> SeriesDetail:
    """Return a series with its conflicts."""
    organization = await queries.get_organization(session, series.organization_id)
    [read] = await _read(session, organization.id, [series])
    conflicts: list[SeriesConflictRead] = []
    if series.status == SeriesStatus.ACTIVE:
        conflicts = await _conflicts(session, organization, series)
    return SeriesDetail(**read.model_dump(), conflicts=conflicts)


async def _conflicts(
    session: AsyncSession, organization: OrganizationCopy, series: SessionSeries
) -> list[SeriesConflictRead]:
    """Return the dates that have no session, or one during a closure."""
    rows_of_resources = await queries.find_resources(session, organization.id, series.resource_ids)
    resources = sorted(rows_of_resources, key=lambda resource: resource.id)
    first = today_in(series.timezone) - timedelta(days=1)
    rows = await queries.sessions_of_series(session, series, first)
    by_date = {row.series_date: row for row in rows if row.series_date is not None}
    zone = ZoneInfo(series.timezone)
    return [
        SeriesConflictRead(
            date=each.day,
            starts_at=each.starts_at.astimezone(zone) if each.starts_at else None,
            session_id=each.row.id if each.row else None,
            code=each.conflict,
            detail=_DETAILS[each.conflict].format(day=in_words(each.day)),
        )
        for each in await examine(session, organization, series, resources, by_date)
        if each.conflict is not None
    ]


async def _read(
    session: AsyncSession, organization_id: int, rows: Sequence[SessionSeries]
) -> list[SeriesRead]:
    organization = await queries.get_organization(session, organization_id)
    ids = {number for row in rows for number in row.resource_ids}
    resources = await queries.find_resources(session, organization_id, ids)
    users = {each.id: each.user_id for each in resources if each.user_id is not None}
    names = await queries.names_of_classes(session, {row.therapy_class_id for row in rows})
    own = {"name", "therapist_id", "new_timezone", "start_time"}
    fields = SeriesRead.model_fields.keys() - own
    return [
        SeriesRead(
            name=names.get(row.therapy_class_id),
            therapist_id=next((users[n] for n in row.resource_ids if n in users), None),
            new_timezone=_new_timezone(row, organization),
            start_time=clock_time_of(row.start_minute),
            **{field: getattr(row, field) for field in fields},
        )
        for row in rows
    ]


def _new_timezone(series: SessionSeries, organization: OrganizationCopy) -> str | None:
    """Return the zone to which the organization has moved without a decision about the series."""
    zone = organization.timezone
    is_undecided = zone not in (series.timezone, series.organization_timezone)
    return zone if is_undecided and series.status == SeriesStatus.ACTIVE else None
