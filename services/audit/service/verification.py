"""Use cases of readers: verify that the rows of a chain are as they were written."""

from collections.abc import Sequence

from anyio import to_thread
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit import queries
from services.audit.access import require_admin, require_reader
from services.audit.evidence.archives import pieces_digest
from services.audit.evidence.chain import GENESIS, chain_of
from services.audit.evidence.personal import is_committed, references
from services.audit.evidence.sealed_heads import Evidence, SealedHeads
from services.audit.models import NO_ORGANIZATION, PersonalValue
from services.audit.queries import Row
from services.audit.queries.audit_logs import Filters
from services.audit.schemas import ChainReport, Failure
from services.audit.service.audit_logs import record_reading
from services.audit.service.chain_walk import ChainWalk, failure
from services.audit.service.seals import SealReader
from shared.actors import Actor
from shared.work import Work


async def verify_all_chains(
    work: Work,
    actor: Actor,
    seals: SealReader,
    organization_id: int | None,
    *,
    first: int,
    last: int | None,
) -> list[ChainReport]:
    """Verify every chain, or a range of one organization's, and report on each.

    Raises Forbidden for everyone except administrators of the system, and SealsUnreachable.
    """
    require_admin(actor)
    # No transaction is open while the seals are fetched.
    evidence = await seals.evidence()
    async with work.begin() as session:
        record_reading(session, "verify", Filters(organization_id=organization_id))
        if organization_id is None:
            return await verify_everything(session, evidence)
        return [await verify_chain(session, organization_id, evidence, first=first, last=last)]


async def verify_rows(
    work: Work,
    actor: Actor,
    seals: SealReader,
    organization_id: int,
    *,
    first: int,
    last: int | None,
) -> ChainReport:
    """Verify a range of an organization's chain, and report on it.

    Raises OrganizationNotFound, Forbidden and SealsUnreachable.
    """
    require_reader(actor, organization_id)
    evidence = await seals.evidence()
    async with work.begin() as session:
        record_reading(session, "verify", Filters(organization_id=organization_id))
        return await verify_chain(session, organization_id, evidence, first=first, last=last)


async def verify_everything(session: AsyncSession, evidence: Evidence) -> list[ChainReport]:
    """Verify every chain that the database or a seal names, and report on each."""
    chains = {chain_of(id_) for id_ in await queries.list_chains(session)} | evidence.chains()
    reports = [
        await verify_chain(session, chain if chain != NO_ORGANIZATION else None, evidence)
        for chain in sorted(chains)
    ]
    if reports and reports[0].valid and (wrong := await _wrong_archive(session)):
        reports[0] = reports[0].model_copy(update={"valid": False, "failure": wrong})
    return reports


async def _wrong_archive(session: AsyncSession) -> Failure | None:
    """Compare the pieces of each archive with the row of the trail that describes the archive."""
    for archive, pieces in await queries.recent_archives(session):
        hashes = await queries.find_archive_hashes(session, archive.id)
        if hashes != (archive.sha256.hex(), pieces_digest(pieces)):
            detail = f"The trail has no row of archive {archive.id}, {archive.file}."
            return failure("removed", 0, None, detail)
    return None


async def verify_chain(
    session: AsyncSession,
    organization_id: int | None,
    evidence: Evidence,
    *,
    first: int = 1,
    last: int | None = None,
) -> ChainReport:
    """Verify a chain between two positions, by default all of it, and report on it.

    If the range begins behind the chain's end, only the place of the end is verified.
    """
    end = await queries.end_of_chain(session, chain_of(organization_id), organization_id)
    heads = evidence.of(organization_id)
    upto = end.position if last is None else min(last, end.position)
    first = min(first, end.position + 1)
    walk = await _start(session, organization_id, heads, first)
    await _follow(session, organization_id, walk, first, upto)
    if walk.failure is None and evidence.fault:
        walk.failure = failure("seal_broken", walk.expected, None, evidence.fault)
    if walk.failure is None:
        walk.end_at(end) if upto == end.position else walk.stop_at(upto)
    return ChainReport(
        organization_id=organization_id,
        first=first,
        last=upto,
        rows=walk.rows,
        valid=walk.failure is None,
        failure=walk.failure,
        sealed=heads.newest or None,
    )


async def _start(
    session: AsyncSession, organization_id: int | None, heads: SealedHeads, first: int
) -> ChainWalk:
    """Return a walk that begins at a position, with the hash of the row before it."""
    ranges = await queries.archived_ranges(session, chain_of(organization_id))
    if first == 1:
        return ChainWalk(first, GENESIS, ranges, heads)
    previous = await queries.find_hash(session, organization_id, first - 1)
    if previous is None:
        # The range may begin where an archive ends.
        ends = {piece.last_position: piece.last_hash for piece in ranges.values()}
        previous = ends.get(first - 1)
    walk = ChainWalk(first, previous or b"", ranges, heads)
    if previous is None:
        detail = "The row before the range is missing."
        walk.failure = failure("removed", first - 1, None, detail)
    return walk


async def _follow(
    session: AsyncSession, organization_id: int | None, walk: ChainWalk, first: int, last: int
) -> None:
    """Check the rows of a range, up to the first that is wrong."""
    if walk.failure is not None:
        return
    async for rows in queries.stream_chain(session, organization_id, first, last):
        await to_thread.run_sync(walk.follow, rows)
        if walk.failure is None:
            walk.failure = await _wrong_personal_value(session, rows)
        if walk.failure is not None:
            return


async def _wrong_personal_value(session: AsyncSession, rows: Sequence[Row]) -> Failure | None:
    """Check the personal values of rows whose own hashes are right against the commitments."""
    row_of = {
        commitment: row
        for row in rows
        for column in ("old_values", "new_values")
        for commitment in references(row[column])
    }
    if not row_of:
        return None
    values = await queries.committed_values(session, row_of)
    users = await queries.erased_users(session, {value.erased_for for value in values.values()})
    for commitment, row in row_of.items():
        if detail := _fault_of(commitment, values.get(commitment), users):
            return failure("altered", row["position"], row, detail)
    return None


def _fault_of(commitment: bytes, value: PersonalValue | None, erased_users: set[int]) -> str | None:
    """Return what is wrong with the value of a commitment, or None."""
    if value is None:
        return "A personal value that the row commits to is missing, and was not erased."
    if value.value is None or value.salt is None:
        if value.erased_for in erased_users:
            return None
        return "A personal value that the row commits to was erased, but for no erased user."
    if not is_committed(commitment, value.salt, value.value):
        return "A personal value is not the one that the row commits to."
    return None
