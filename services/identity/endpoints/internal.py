"""The routes for Carnet's own processes. The gateway never routes to them."""

from services.identity.endpoints.dependencies import ResourcesDep
from services.identity.schemas.sign_in import Revocations
from services.identity.schemas.users import OwnerOrder, UserCopy, UserRead
from services.identity.service import owners, revocations, users
from shared.auth import called_by
from shared.fields import Id
from shared.routing import router
from shared.sessions import InternalSessionDep, InternalWorkDep

internal = router(prefix="/internal", include_in_schema=False)


@internal.post("/owners", status_code=201, dependencies=[called_by("organizations")])
async def make_owner(body: OwnerOrder, work: InternalWorkDep, resources: ResourcesDep) -> UserRead:
    """Create the owner of an organization that is being created; once per organization."""
    return UserRead.model_validate(await owners.create_owner(work, resources, body))


@internal.get("/owners/{organization_id}", dependencies=[called_by("organizations")])
async def get_owner(organization_id: Id, session: InternalSessionDep) -> UserRead:
    """Return an organization's first owner."""
    return UserRead.model_validate(await owners.get_first_owner(session, organization_id))


@internal.get("/users/{user_id}", dependencies=[called_by("vouchers")])
async def copy_user(user_id: Id, session: InternalSessionDep) -> UserCopy:
    """Return a user or a dependant for a service that has no copy yet."""
    return await users.copy_user(session, user_id)


@internal.get("/revocations", dependencies=[called_by("gateway")])
async def list_revocations(session: InternalSessionDep) -> Revocations:
    """Return the void access tokens that have not expired, for a gateway that starts.

    `revoked_sessions`: tokens with one of these `sid` are void. `users`: user id → seconds since
    1970; that user's tokens with an earlier `iat` are void. `organizations`: tokens of these
    organizations are void, as of their `organization_versions`.

    Afterwards the gateway follows the events: `ended_sessions`, and `user_id` with
    `tokens_not_before`, in the `new_values` of any `identity.user.*` and `identity.permission.*`;
    and `is_active` in `organizations.organization.*`. It binds its queue before it sends this
    request, so that it misses nothing in between. It may delete an entry after eleven minutes,
    when all such tokens have expired.
    """
    return await revocations.list_revocations(session)
