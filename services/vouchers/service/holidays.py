"""Use case of holidays: close everybody on the public holidays of a year."""

import asyncio
from collections.abc import Sequence
from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, queries
from services.vouchers.models import HOLIDAY, Closure, ClosureKind
from services.vouchers.scheduling.public_holidays import (
    PublicHoliday,
    UnknownCountry,
    UnknownSubdivision,
    public_holidays,
)
from services.vouchers.scheduling.wallclock import local_time
from services.vouchers.schemas.calendars import ClosureRead, HolidaysCreate, HolidaysResult
from services.vouchers.service.resources import conflicts_of
from shared.actors import Actor
from shared.changes import record
from shared.errors import Invalid


async def close_on_holidays(
    session: AsyncSession, actor: Actor, organization_id: int, body: HolidaysCreate
) -> HolidaysResult:
    """Close everybody on the public holidays of a year; days that are closed for it already stay.

    Reservations that are outside of the hours now stay, and are listed. Raises
    OrganizationNotFound, Forbidden, and Invalid for an unknown country or subdivision.
    """
    access.require_booking_manager(actor, organization_id)
    holidays = await _holidays_of(body)
    # Two requests at the same time must not close a day twice.
    organization = await queries.lock_organization(session, organization_id)
    source = HOLIDAY + "-".join(filter(None, (body.country, body.subdivision)))
    first, last = local_time(date(body.year, 1, 1), 0), local_time(date(body.year, 12, 31), 1440)
    closures = await queries.closures_of_source(session, organization_id, source, first, last)
    new_closures = _missing_closures(organization_id, source, holidays, closures)
    session.add_all(new_closures)
    for closure in new_closures:
        record(session, "CREATE", closure)
    await session.flush()
    therapists = await queries.list_therapists_of(session, organization_id, None)
    zone = ZoneInfo(organization.timezone)
    rows = sorted([*closures, *new_closures], key=lambda closure: closure.starts_local)
    return HolidaysResult(
        closures=[ClosureRead.model_validate(closure) for closure in rows],
        created=len(new_closures),
        conflicts=await conflicts_of(session, zone, organization_id, therapists),
    )


async def _holidays_of(body: HolidaysCreate) -> list[PublicHoliday]:
    """Return the holidays; raises Invalid. In a thread: a country is read at its first use."""
    try:
        return await asyncio.to_thread(public_holidays, body.country, body.subdivision, body.year)
    except UnknownCountry as error:
        raise Invalid(
            "country", "must be the ISO 3166-1 code of a country with known holidays"
        ) from error
    except UnknownSubdivision as error:
        choices = str(error)
        rule = f"must be one of {choices}" if choices else "must be left out for this country"
        raise Invalid("subdivision", rule) from error


def _missing_closures(
    organization_id: int,
    source: str,
    holidays: Sequence[PublicHoliday],
    closures: Sequence[Closure],
) -> list[Closure]:
    """Return new closures for the holidays on whose day none begins."""
    days = {closure.starts_local.date() for closure in closures}
    return [
        Closure(
            organization_id=organization_id,
            resource_id=None,
            kind=ClosureKind.CLOSED,
            starts_local=local_time(holiday.day, 0),
            ends_local=local_time(holiday.day, 1440),
            reason=holiday.name,
            source=source,
        )
        for holiday in holidays
        if holiday.day not in days
    ]
