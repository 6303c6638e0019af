"""The dependencies of this service's routes."""

from typing import Annotated

from fastapi import Depends

from services.vouchers.models import OrganizationCopy
from services.vouchers.service import voucher_types
from shared.auth import ActorDep
from shared.fields import Id
from shared.sessions import ClientsDep, UnclaimedWorkDep


async def _managed_organization(
    organization_id: Id, actor: ActorDep, work: UnclaimedWorkDep, clients: ClientsDep
) -> OrganizationCopy:
    return await voucher_types.get_managed_organization(work, actor, clients, organization_id)


ManagedOrganizationDep = Annotated[OrganizationCopy, Depends(_managed_organization)]
"""The organization of the path, whose voucher types the actor manages. A route names it before
its session: it may call the organizations service, and no transaction may be open then."""
