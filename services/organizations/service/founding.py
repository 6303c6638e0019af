"""Founding an organization: two services, one outcome. Both rows come to be, or neither does.

1. Our transaction promises an id and a slug. 2. Identity makes the owner, in its own
transaction, once per organization id. 3. Our second transaction makes the organization. When a
crash comes between, a timer asks identity whether the owner exists and finishes or gives up.
"""

from datetime import datetime, timedelta
from typing import Any

import httpx
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.organizations import queries
from services.organizations.errors import EmailTaken
from services.organizations.models import Founding, Organization
from services.organizations.schemas import OrganizationCopy, OrganizationCreate, OwnerRead
from services.organizations.service.organizations import free_slug
from services.organizations.telemetry import FAILING, SETTLED
from shared.changes import act_as, record
from shared.clients import ServiceClients
from shared.context import Origin, system_origin
from shared.db import now
from shared.errors import Invalid, ServiceUnavailable
from shared.failpoints import failpoint
from shared.transactions import Transactions
from shared.work import Work

log = structlog.get_logger(__name__)

INTERRUPTED_AFTER = timedelta(seconds=60)
"""Longer than any request lives, so that the timer never meets one at work."""

BATCH = 100
"""How many foundings one run of the timer settles at most."""


async def found(
    work: Work, clients: ServiceClients, body: OrganizationCreate
) -> tuple[Organization, OwnerRead]:
    """Found an organization with its owner.

    Raises EmailTaken, Invalid (the owner's fields) and ServiceUnavailable; after the last one the
    timer settles what identity did, and the same Idempotency-Key goes on where this attempt ended.
    """
    founding = await _begin(work, body)
    if isinstance(founding, Organization):
        return founding, await _owner_of(work, clients, founding.id)
    failpoint("founding.promised")
    answer = await clients.request(
        "identity", "POST", "/internal/owners", work.origin, json=_order(founding, body)
    )
    failpoint("founding.owner_answered")
    if answer.status_code >= 400:
        async with work.begin() as session:
            await abandon_founding(session, founding.organization_id)
        raise _refusal(answer)
    async with work.begin() as session:
        organization = await complete_founding(session, founding.organization_id)
    failpoint("founding.completed")
    return organization, OwnerRead.model_validate_json(answer.content)


async def _begin(work: Work, body: OrganizationCreate) -> Founding | Organization:
    """Return what is to be founded: anew, or what an attempt with the same key has left, which
    may be whole already, by its own hand or the timer's."""
    async with work.begin() as session:
        if work.claim and work.claim.resource_id is not None:
            begun = await queries.lock_founding(session, work.claim.resource_id)
            if begun is not None:
                begun.started_at = now()  # the timer must not meet this attempt either
                return begun
            made = await queries.find(session, work.claim.resource_id)
            if made is not None:
                return made
        founding = await begin_founding(session, work.origin, body.organization())
        if work.claim:
            await work.claim.attach(session, founding.organization_id)
        return founding


async def _owner_of(work: Work, clients: ServiceClients, organization_id: int) -> OwnerRead:
    path = f"/internal/owners/{organization_id}"
    answer = await clients.request("identity", "GET", path, work.origin)
    if answer.status_code != 200:
        raise ServiceUnavailable("Identity does not know the owner.")
    return OwnerRead.model_validate_json(answer.content)


def _order(founding: Founding, body: OrganizationCreate) -> dict[str, Any]:
    organization = founding.organization()
    organization.version = 1
    return {
        "organization": OrganizationCopy.model_validate(organization).model_dump(),
        "email": body.owner_email,
        "name": body.owner_name,
        "password": body.owner_password,
        "phone": None,
    }


def _refusal(answer: httpx.Response) -> Exception:
    problem = answer.json()
    if problem.get("code") == "email_taken":
        return EmailTaken()
    if answer.status_code == 422 and problem.get("errors"):
        error = problem["errors"][0]
        return Invalid(f"owner_{error['field']}", error["message"])
    return ServiceUnavailable("Identity refused to make the owner.")


async def settle_interrupted(transactions: Transactions, clients: ServiceClients) -> None:
    """Finish or give up every founding that a crash left behind.

    One that cannot be settled does not keep the others from it: it is counted, logged and tried
    again later, each time after twice as long.
    """
    async with transactions.system() as session:
        started_before = now() - INTERRUPTED_AFTER
        waiting = await queries.interrupted_foundings(session, started_before, BATCH)
    for organization_id in waiting:
        try:
            outcome = await _settle(transactions, clients, organization_id, started_before)
        except Exception as error:
            SETTLED.labels("failed").inc()
            log.error("founding_not_settled", organization_id=organization_id, exc_info=error)
            async with transactions.system() as session:
                await postpone_settling(session, organization_id)
        else:
            SETTLED.labels(outcome).inc()
    async with transactions.system() as session:
        FAILING.set(await queries.count_failing_foundings(session))


async def _settle(
    transactions: Transactions,
    clients: ServiceClients,
    organization_id: int,
    started_before: datetime,
) -> str:
    """Settle one founding as identity says, and return what became of it.

    Raises ServiceUnavailable when identity does not say whether the owner exists.
    """
    answer = await clients.request(
        "identity", "GET", f"/internal/owners/{organization_id}", system_origin()
    )
    failpoint("founding.settling")
    if answer.status_code not in (200, 404):
        raise ServiceUnavailable(f"Identity answered {answer.status_code}.")
    async with transactions.system() as session:
        if answer.status_code == 200:
            await complete_founding(session, organization_id)
            return "completed"
        # A request may have resumed it since the list was read: identity may make the owner now.
        abandoned = await abandon_founding(session, organization_id, started_before=started_before)
        return "abandoned" if abandoned else "resumed"


async def begin_founding(session: AsyncSession, origin: Origin, fields: dict[str, Any]) -> Founding:
    """Promise an id and a slug to an organization whose owner is yet to be made."""
    founding = Founding(
        organization_id=await queries.next_organization_id(session),
        slug=await free_slug(session, fields["name"]),
        fields=fields,
        user_id=origin.user_id,
        role=origin.role,
    )
    session.add(founding)
    await session.flush()
    return founding


async def complete_founding(session: AsyncSession, organization_id: int) -> Organization:
    """Make the organization real: its owner exists. Safe to repeat."""
    founding = await queries.lock_founding(session, organization_id)
    if founding is None:
        return await queries.get(session, organization_id)
    organization = founding.organization()
    session.add(organization)
    await session.delete(founding)
    if founding.user_id is not None:
        act_as(session, founding.user_id, founding.role)
    record(session, "CREATE", organization)
    await session.flush()
    return organization


async def abandon_founding(
    session: AsyncSession, organization_id: int, *, started_before: datetime | None = None
) -> bool:
    """Give id and slug up: there is no owner, so there will be no organization.

    Returns False, and leaves the founding alone, if a request has resumed it since
    `started_before`.
    """
    founding = await queries.lock_founding(session, organization_id)
    if founding is None:
        return True
    if started_before is not None and founding.started_at >= started_before:
        return False
    await session.delete(founding)
    return True


async def postpone_settling(session: AsyncSession, organization_id: int) -> None:
    """Note that an interrupted founding could not be settled; it is tried again later."""
    founding = await queries.lock_founding(session, organization_id)
    if founding is not None:
        founding.postpone()
