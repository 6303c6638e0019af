"""What the routes of this service need beside a session."""

from typing import Annotated

from fastapi import Depends, Request

from services.vouchers.errors import OrganizationNotFound
from services.vouchers.models import OrganizationCopy
from services.vouchers.service import voucher_types
from services.vouchers.service.remote_copies import RemoteCopies
from shared.auth import ActorDep
from shared.clients import ServiceClients
from shared.fields import Id
from shared.sessions import UnclaimedWorkDep
from shared.tenancy import EVERYTHING


async def _clients(request: Request) -> ServiceClients:
    clients: ServiceClients = request.app.state.clients
    return clients


ClientsDep = Annotated[ServiceClients, Depends(_clients)]


async def _member_organization(organization_id: Id, actor: ActorDep) -> int:
    voucher_types.require_member(actor, organization_id)
    return organization_id


MemberOrganizationDep = Annotated[int, Depends(_member_organization)]
"""The id of the path's organization, to which the actor belongs; 404 otherwise."""


async def _managed_organization(
    organization_id: Id, actor: ActorDep, work: UnclaimedWorkDep, clients: ClientsDep
) -> OrganizationCopy:
    voucher_types.require_manager(actor, organization_id)
    remote_copies = RemoteCopies(clients, work.origin, lambda: work.begin(EVERYTHING))
    organization = await remote_copies.find_organization(organization_id)
    if organization is None:
        raise OrganizationNotFound
    return organization


ManagedOrganizationDep = Annotated[OrganizationCopy, Depends(_managed_organization)]
"""The path's organization, whose voucher types the actor manages. Name it before the session: it
may have to ask the organizations service, and no transaction may be open then."""
