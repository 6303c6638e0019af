"""Access tokens that are void before they expire."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.schemas.sign_in import Revocations
from services.identity.service.keyring import VERIFICATION_PERIOD
from shared.db import now


async def list_revocations(session: AsyncSession) -> Revocations:
    """Return what makes access tokens void that have not expired."""
    since = now() - VERIFICATION_PERIOD
    session_ids = await queries.list_sessions_ended_since(session, since)
    cutoffs = await queries.token_cutoffs_since(session, since)
    versions = dict(await queries.organizations_closed_since(session, since))
    return Revocations(
        revoked_sessions=[str(session_id) for session_id in session_ids],
        users={user_id: round(moment.timestamp(), 3) for user_id, moment in cutoffs.items()},
        organizations=list(versions),
        organization_versions=versions,
    )
