"""Founding an organization: two services, one outcome. Both rows exist afterwards, or neither.

1. Our transaction reserves an id and a slug. 2. Identity makes the owner, in its own transaction,
once for each organization id. 3. Our second transaction makes the organization. After a crash
between them a timer asks identity whether the owner exists, and completes or abandons the founding.
"""

from datetime import datetime, timedelta
from typing import Any

import httpx
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.organizations import queries
from services.organizations.access import require_admin
from services.organizations.errors import EmailTaken
from services.organizations.models import Founding, Organization
from services.organizations.schemas import OrganizationCopy, OrganizationCreate, OwnerRead
from services.organizations.service.organizations import free_slug
from services.organizations.telemetry import FAILING, SETTLED
from shared.actors import Actor
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
"""Longer than any request lasts, so that the timer never settles one that still runs."""

BATCH = 100
"""How many foundings one run of the timer settles at most."""


async def found_organization(
    work: Work, actor: Actor, clients: ServiceClients, body: OrganizationCreate
) -> tuple[Organization, OwnerRead]:
    """Found an organization with its owner, for an administrator.

    Raises Forbidden, EmailTaken, Invalid (the owner's fields) and ServiceUnavailable. After the
    last one the timer settles what identity did, and a request with the same Idempotency-Key
    continues this attempt.
    """
    require_admin(actor)
    founding = await _begin_or_resume(work, body)
    if isinstance(founding, Organization):
        return founding, await _fetch_owner(work, clients, founding.id)
    failpoint("founding.promised")
    response = await clients.request(
        "identity", "POST", "/internal/owners", work.origin, json=_owner_request(founding, body)
    )
    failpoint("founding.owner_answered")
    if response.status_code >= 400:
        async with work.begin() as session:
            await abandon_founding(session, founding.organization_id)
        raise _error_of(response)
    async with work.begin() as session:
        organization = await complete_founding(session, founding.organization_id)
    failpoint("founding.completed")
    return organization, OwnerRead.model_validate_json(response.content)


async def _begin_or_resume(work: Work, body: OrganizationCreate) -> Founding | Organization:
    """Begin a founding, or return what an attempt with the same Idempotency-Key has left.

    That is a founding to continue, or the organization if the attempt or the timer completed it.
    """
    async with work.begin() as session:
        if work.claim and work.claim.resource_id is not None:
            earlier = await queries.lock_founding(session, work.claim.resource_id)
            if earlier is not None:
                earlier.resume()
                return earlier
            organization = await queries.find_organization(session, work.claim.resource_id)
            if organization is not None:
                return organization
        founding = await begin_founding(session, work.origin, body.organization())
        if work.claim:
            await work.claim.attach(session, founding.organization_id)
        return founding


async def _fetch_owner(work: Work, clients: ServiceClients, organization_id: int) -> OwnerRead:
    path = f"/internal/owners/{organization_id}"
    response = await clients.request("identity", "GET", path, work.origin)
    if response.status_code != 200:
        raise ServiceUnavailable("Identity did not return the owner. Repeat the request later.")
    return OwnerRead.model_validate_json(response.content)


def _owner_request(founding: Founding, body: OrganizationCreate) -> dict[str, Any]:
    organization = founding.organization()
    organization.version = 1
    return {
        "organization": OrganizationCopy.model_validate(organization).model_dump(),
        "email": body.owner_email,
        "name": body.owner_name,
        "password": body.owner_password,
        "phone": None,
    }


def _error_of(response: httpx.Response) -> Exception:
    """Return the error for a client whose owner identity did not make."""
    problem = response.json()
    if problem.get("code") == "email_taken":
        return EmailTaken()
    if response.status_code == 422 and problem.get("errors"):
        error = problem["errors"][0]
        return Invalid(f"owner_{error['field']}", error["message"])
    return ServiceUnavailable("Identity did not make the owner. Repeat the request later.")


async def begin_founding(session: AsyncSession, origin: Origin, fields: dict[str, Any]) -> Founding:
    """Reserve an id and a slug for an organization whose owner does not exist yet."""
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
    """Make the organization, once its owner exists. Safe to repeat."""
    founding = await queries.lock_founding(session, organization_id)
    if founding is None:
        return await queries.get_organization(session, organization_id)
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
    """Release the id and the slug: there is no owner, so there will be no organization.

    Returns False, and changes nothing, if a request has resumed the founding since
    `started_before`.
    """
    founding = await queries.lock_founding(session, organization_id)
    if founding is None:
        return True
    if started_before is not None and founding.started_at >= started_before:
        return False
    await session.delete(founding)
    return True


async def settle_interrupted(transactions: Transactions, clients: ServiceClients) -> None:
    """Complete or abandon every founding that a crash has interrupted.

    One that cannot be settled does not delay the others: it is counted, logged and tried again
    later, each time after twice as long.
    """
    async with transactions.system() as session:
        started_before = now() - INTERRUPTED_AFTER
        due = await queries.list_interrupted_foundings(session, started_before, BATCH)
    for organization_id in due:
        try:
            outcome = await _settle(transactions, clients, organization_id, started_before)
        except Exception as error:
            SETTLED.labels("failed").inc()
            log.error("founding_not_settled", organization_id=organization_id, exc_info=error)
            async with transactions.system() as session:
                await _postpone(session, organization_id, started_before)
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
    """Settle one founding as identity reports, and return the outcome.

    Raises ServiceUnavailable if identity does not report whether the owner exists.
    """
    response = await clients.request(
        "identity", "GET", f"/internal/owners/{organization_id}", system_origin()
    )
    failpoint("founding.settling")
    if response.status_code not in (200, 404):
        raise ServiceUnavailable(f"Identity answered {response.status_code}.")
    async with transactions.system() as session:
        if response.status_code == 200:
            await complete_founding(session, organization_id)
            return "completed"
        # A request may have resumed it since the list was read: identity may make the owner now.
        is_abandoned = await abandon_founding(
            session, organization_id, started_before=started_before
        )
        return "abandoned" if is_abandoned else "resumed"


async def _postpone(session: AsyncSession, organization_id: int, started_before: datetime) -> None:
    """Record that a founding could not be settled, unless a request has resumed it meanwhile."""
    founding = await queries.lock_founding(session, organization_id)
    if founding is not None and founding.started_at < started_before:
        founding.postpone()
