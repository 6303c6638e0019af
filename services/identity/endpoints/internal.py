"""What Carnet's own processes may ask; never routed by the gateway."""

from services.identity import queries
from services.identity.endpoints.dependencies import ResourcesDep
from services.identity.errors import UserNotFound
from services.identity.schemas import OwnerOrder, Revocations, UserCopy, UserRead
from services.identity.service import registration, users
from services.identity.service.keyring import VERIFICATION_PERIOD
from shared.auth import called_by
from shared.fields import Id
from shared.routing import router
from shared.sessions import InternalSessionDep, InternalWorkDep

internal = router(prefix="/internal", include_in_schema=False)


@internal.post("/owners", status_code=201, dependencies=[called_by("organizations")])
async def make_owner(body: OwnerOrder, work: InternalWorkDep, resources: ResourcesDep) -> UserRead:
    """Make the owner of an organization that is being founded; once per organization."""
    return UserRead.model_validate(await registration.make_owner(work, resources, body))


@internal.get("/owners/{organization_id}", dependencies=[called_by("organizations")])
async def get_owner(organization_id: Id, session: InternalSessionDep) -> UserRead:
    """Return an organization's first owner."""
    owners = await queries.owners_of(session, organization_id)
    if not owners:
        raise UserNotFound
    return UserRead.model_validate(owners[0])


@internal.get("/users/{user_id}", dependencies=[called_by("vouchers")])
async def copy_user(user_id: Id, session: InternalSessionDep) -> UserCopy:
    """Return a user for a service that does not have it yet."""
    return UserCopy.model_validate(await users.get(session, user_id))


@internal.get("/revocations", dependencies=[called_by("gateway")])
async def list_revocations(session: InternalSessionDep) -> Revocations:
    """Return what a gateway must know when it starts: the void tokens that have not run out.

    `revoked_sessions`: tokens with one of these `sid` are void. `users`: user id → seconds since
    1970; that user's tokens with an earlier `iat` are void. `organizations`: tokens of these
    organizations are void, as of their `organization_versions`. From then on
    the gateway follows the events: `ended_sessions`, and `user_id` with `tokens_not_before`, in the
    `new_values` of `identity.user.*` and `identity.permission.*`, whichever event has them; and
    `is_active` in `organizations.organization.*`. It binds its queue first and asks afterwards, so
    that nothing falls in between, and may forget an entry after eleven minutes, when all such
    tokens have run out.
    """
    sessions, instants, closed = await queries.list_revocations(session, VERIFICATION_PERIOD)
    return Revocations(
        revoked_sessions=sessions,
        users=instants,
        organizations=list(closed),
        organization_versions=closed,
    )
