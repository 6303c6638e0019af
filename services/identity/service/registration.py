"""Registration: clients register themselves and wait for approval."""

from services.identity.errors import OrganizationNotFound, RegistrationClosed
from services.identity.models import CLIENT, User
from services.identity.schemas import Registration
from services.identity.service import accounts, attempt_limits, organizations
from services.identity.service.resources import Resources
from shared.networks import network_of
from shared.tenancy import see_all_tenants
from shared.work import Work


async def register(work: Work, resources: Resources, body: Registration) -> User:
    """Register a client, who waits for approval.

    Raises RegistrationClosed, TooManyAttempts, EmailTaken, OrganizationNotFound (also for a
    deactivated one), Invalid (a weak password), ServiceUnavailable.
    """
    if not resources.settings.self_registration:
        raise RegistrationClosed
    counters = attempt_limits.registration_counters(
        network_of(work.origin.ip_address), resources.settings.registrations_per_address
    )
    async with work.begin() as session:
        await see_all_tenants(session)
        await attempt_limits.count_attempt(session, counters)
    organization_id, slug = None, body.organization_slug
    if slug is not None:
        organization = await organizations.find_by_slug(work, resources.clients, slug)
        if organization is None or not organization.is_active:
            raise OrganizationNotFound
        organization_id = organization.id
    password_hash = await resources.passwords.hash_new(body.password, accounts.texts_of(body, slug))
    return await accounts.insert(
        work, accounts.new_user(body, password_hash, CLIENT, organization_id)
    )
