"""The dependencies of this service's routes."""

from datetime import date, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Query, Request

from services.vouchers.models import AccountMode, OrganizationCopy
from services.vouchers.service import voucher_types
from shared.auth import ActorDep
from shared.encryption import BoundEncryption
from shared.errors import Invalid
from shared.fields import Day, Id, Instant
from shared.sessions import ClientsDep, UnclaimedWorkDep, unclaimed_work_of
from shared.work import Work

MOST_DAYS = 62


async def _stretch(
    start: Annotated[Instant, Query(alias="from", description="The first moment, inclusive")],
    until: Annotated[Instant, Query(description=f"Exclusive, at most {MOST_DAYS} days later")],
) -> tuple[datetime, datetime]:
    """Return the stretch of time that a request asks for. Raises Invalid."""
    if until <= start:
        raise Invalid("until", "must be later than from")
    if until - start > timedelta(days=MOST_DAYS):
        raise Invalid("until", f"must be at most {MOST_DAYS} days after from")
    return start, until


StretchDep = Annotated[tuple[datetime, datetime], Depends(_stretch)]
"""A stretch of time: its first moment, and the first moment after it."""


async def _days(
    start: Annotated[
        Day, Query(alias="from", description="The first day, in the zone of the organization")
    ],
    until: Annotated[Day, Query(description=f"The last day, inclusive; at most {MOST_DAYS} days")],
) -> tuple[date, date]:
    """Return the days that a request asks for. Raises Invalid."""
    if until < start:
        raise Invalid("until", "must not be before from")
    if (until - start).days >= MOST_DAYS:
        raise Invalid("until", f"must be less than {MOST_DAYS} days after from")
    return start, until


DaysDep = Annotated[tuple[date, date], Depends(_days)]
"""Days of the organization, both inclusive."""


async def _managed_organization(
    organization_id: Id, actor: ActorDep, work: UnclaimedWorkDep, clients: ClientsDep
) -> OrganizationCopy:
    return await voucher_types.get_managed_organization(work, actor, clients, organization_id)


ManagedOrganizationDep = Annotated[OrganizationCopy, Depends(_managed_organization)]
"""The organization of the path, whose voucher types the actor manages. A route names it before
its session: it may call the organizations service, and no transaction may be open then."""


async def _account_mode(request: Request) -> AccountMode:
    mode: AccountMode = request.app.state.accounts
    return mode


AccountModeDep = Annotated[AccountMode, Depends(_account_mode)]
"""Whose account at a payment gateway receives card payments."""


async def _public_url(request: Request) -> str | None:
    url: str | None = request.app.state.public_url
    return url


PublicUrlDep = Annotated[str | None, Depends(_public_url)]
"""The address at which users reach the installation, if it is configured."""


async def _anonymous_work(request: Request) -> Work:
    """Ignore the access token: whoever has the address of a calendar feed may read it."""
    return await unclaimed_work_of(request, None)


AnonymousWorkDep = Annotated[Work, Depends(_anonymous_work)]
"""Transactions without an actor."""


async def _address_encryption(request: Request) -> BoundEncryption:
    encryption: BoundEncryption = request.app.state.address_encryption
    return encryption


AddressEncryptionDep = Annotated[BoundEncryption, Depends(_address_encryption)]
"""Encrypts the addresses of calendars."""
