"""Registration: clients register themselves, confirm the address, and wait for approval.

The answer does not reveal whether the address has an account: its owner gets a message instead.
"""

import time
from dataclasses import dataclass

from services.identity import queries
from services.identity.errors import EmailTaken, OrganizationNotFound, RegistrationClosed
from services.identity.models import CLIENT, User
from services.identity.schemas.users import Registration
from services.identity.service import (
    accounts,
    addresses,
    attempt_limits,
    organizations,
    password_reset,
)
from services.identity.service.resources import Resources
from shared.networks import network_of
from shared.tenancy import see_all_tenants
from shared.work import Work


@dataclass(frozen=True, slots=True)
class ReceivedRegistration:
    """What a client learns of the own registration, whether a user was created or not."""

    id: int | None
    email: str
    name: str
    phone: str | None
    locale: str | None
    organization_id: int | None
    awaits_confirmation: bool
    role: str = CLIENT
    is_active: bool = False


async def register(work: Work, resources: Resources, body: Registration) -> ReceivedRegistration:
    """Register a client, who confirms the address and waits for approval.

    Raises RegistrationClosed, TooManyAttempts, OrganizationNotFound (also for a deactivated one),
    Invalid (a weak password), ServiceUnavailable; EmailTaken only if the settings allow to reveal
    it.
    """
    started_at = time.monotonic()
    settings = resources.settings
    if not settings.self_registration:
        raise RegistrationClosed
    await _count(work, resources)
    organization_id = await _find_organization(work, resources, body.organization_slug)
    password_hash = await resources.passwords.hash_new(
        body.password, accounts.texts_of(body, body.organization_slug)
    )
    user = accounts.new_user(body, password_hash, CLIENT, organization_id)
    # Without an SMTP server nobody could confirm an address; staff still approve everybody.
    user.awaits_confirmation = settings.smtp_url is not None
    awaits_confirmation = user.awaits_confirmation
    user_id = await _insert(work, resources, user)
    if not settings.reveal_existing:
        await resources.registration_delay.wait(started_at)
    return ReceivedRegistration(
        user_id if settings.reveal_existing else None,
        body.email,
        body.name,
        body.phone,
        body.locale,
        organization_id,
        awaits_confirmation,
    )


async def _count(work: Work, resources: Resources) -> None:
    counters = attempt_limits.registration_counters(
        network_of(work.origin.ip_address), resources.settings.registrations_per_address
    )
    async with work.begin() as session:
        await see_all_tenants(session)
        await attempt_limits.count_attempt(session, counters)


async def _find_organization(work: Work, resources: Resources, slug: str | None) -> int | None:
    """Return the id of the active organization with a slug; raises OrganizationNotFound."""
    if slug is None:
        return None
    organization = await organizations.find_by_slug(work, resources.clients, slug)
    if organization is None or not organization.is_active:
        raise OrganizationNotFound
    return organization.id


async def _insert(work: Work, resources: Resources, user: User) -> int | None:
    """Insert a user and send the link. Return None if the address has an account, or raise it."""
    email = user.email
    send = addresses.send_confirmation if user.awaits_confirmation else None
    try:
        return (await accounts.insert(work, user, announce=send)).id
    except EmailTaken:
        if resources.settings.reveal_existing:
            raise
    async with work.begin() as session:
        await see_all_tenants(session)
        existing = await queries.find_user_by_email(session, email)
        account = attempt_limits.account_key(existing.id if existing else None, email)
        await password_reset.send_link_once_more(session, account, existing, is_registration=True)
    return None
