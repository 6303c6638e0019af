"""Verification: walk a chain and name the first row that is not as it was written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from anyio import to_thread
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit import queries
from services.audit.access import require_admin, require_reader
from services.audit.evidence.archives import pieces_digest
from services.audit.evidence.chain import GENESIS, chain_of, hash_of
from services.audit.evidence.personal import is_kept, references
from services.audit.evidence.sealed_heads import Evidence, Sealed
from services.audit.models import NO_ORGANIZATION, ArchivedRange, PersonalValue
from services.audit.schemas import ChainReport, Failure, Filters
from services.audit.service.audit_logs import record_reading
from services.audit.service.seals import SealReader
from shared.actors import Actor
from shared.work import Work

Row = queries.Row
Kind = Literal["altered", "inserted", "removed", "missing_at_the_end", "rewritten", "seal_broken"]


@dataclass(slots=True)
class Walk:
    """A walk along one chain; `expected` is the position that comes next."""

    expected: int
    previous: bytes
    archived: Mapping[int, ArchivedRange]
    sealed: Sealed
    rows: int = 0
    vouched: int = 0
    failure: Failure | None = field(default=None)

    def follow(self, rows: Sequence[Row]) -> None:
        """Go on over the next rows, up to the first that is wrong."""
        for row in rows:
            self.failure = self._step(row)
            if self.failure:
                return

    def _step(self, row: Row) -> Failure | None:
        self.pass_archives()
        position = row["position"]
        if position < self.expected:
            return _failure("inserted", position, row, "There is a second row at this position.")
        if position > self.expected:
            return _failure("removed", self.expected, None, "The row at this position is gone.")
        if hash_of(row) != row["hash"]:
            return _failure("altered", position, row, "The row does not have the hash it carries.")
        if row["previous_hash"] != self.previous:
            return _failure("inserted", position, row, "The row does not continue the one before.")
        return self._accept(position, row["hash"], row)

    def _accept(self, position: int, hash_: bytes, row: Row | None) -> Failure | None:
        sealed = self.sealed.get(position)
        if sealed is not None and sealed != hash_:
            detail = f"The signed seal of position {position} tells of another chain."
            return _failure("rewritten", self.vouched + 1, row, detail)
        if sealed is not None:
            self.vouched = position
        self.expected, self.previous, self.rows = position + 1, hash_, self.rows + 1
        return None

    def pass_archives(self) -> None:
        """Step over what went to the archive, where its hashes join."""
        while (piece := self.archived.get(self.expected)) is not None:
            if piece.previous_hash != self.previous:
                return
            self.expected, self.previous = piece.last_position + 1, piece.last_hash

    def stop_at(self, last: int) -> None:
        """Check that the range was walked to its end, which is not the chain's."""
        self.pass_archives()
        if self.expected <= last:
            detail = "The row at this position is gone."
            self.failure = _failure("removed", self.expected, None, detail)

    def end_at(self, head: queries.End) -> None:
        """Check that the chain ends where its head, and the newest seal, say."""
        self.pass_archives()
        newest = self.sealed.newest
        if self.expected <= max(head.position, newest):
            detail = f"The chain went on to position {max(head.position, newest)}."
            self.failure = _failure("missing_at_the_end", self.expected, None, detail)
        elif self.previous != head.hash:
            detail = "The last row is not the one that the chain's head tells of."
            self.failure = _failure("altered", self.expected - 1, None, detail)
        elif head.newest_row > head.position:
            detail = "There are rows behind the chain's head."
            self.failure = _failure("inserted", head.position + 1, None, detail)


def _failure(kind: Kind, position: int, row: Row | None, detail: str) -> Failure:
    return Failure(
        kind=kind,
        position=position,
        row_id=row["id"] if row else None,
        event_id=row["event_id"] if row else None,
        detail=detail,
    )


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
    """Walk every chain that the database or a seal knows of."""
    known = {chain_of(id_) for id_ in await queries.chains(session)} | evidence.chains()
    reports = [
        await verify_chain(session, id_ if id_ != NO_ORGANIZATION else None, evidence)
        for id_ in sorted(known)
    ]
    if reports and reports[0].valid and (wrong := await _wrong_archive(session)):
        reports[0] = reports[0].model_copy(update={"valid": False, "failure": wrong})
    return reports


async def _wrong_archive(session: AsyncSession) -> Failure | None:
    """Check that the pieces which archives account for are those that the trail tells of."""
    for archive, pieces in await queries.archives(session):
        told = await queries.told_of_archive(session, archive.id)
        if told != (archive.sha256.hex(), pieces_digest(pieces)):
            detail = f"The trail does not tell of archive {archive.id}, {archive.file}."
            return _failure("removed", 0, None, detail)
    return None


async def verify_chain(
    session: AsyncSession,
    organization_id: int | None,
    evidence: Evidence,
    *,
    first: int = 1,
    last: int | None = None,
) -> ChainReport:
    """Walk a chain from one position to another, by default all of it, and report.

    A range that begins behind the chain's end is the end alone: whether it is where it must be.
    """
    head = await queries.end_of_chain(session, chain_of(organization_id), organization_id)
    sealed = evidence.of(organization_id)
    upto = head.position if last is None else min(last, head.position)
    first = min(first, head.position + 1)
    walk = await _start(session, organization_id, sealed, first)
    await _walk(session, organization_id, walk, first, upto)
    if walk.failure is None and evidence.fault:
        walk.failure = _failure("seal_broken", walk.expected, None, evidence.fault)
    if walk.failure is None:
        walk.end_at(head) if upto == head.position else walk.stop_at(upto)
    return ChainReport(
        organization_id=organization_id,
        first=first,
        last=upto,
        rows=walk.rows,
        valid=walk.failure is None,
        failure=walk.failure,
        sealed=sealed.newest or None,
    )


async def _walk(
    session: AsyncSession, organization_id: int | None, walk: Walk, first: int, last: int
) -> None:
    if walk.failure is not None:
        return
    async for rows in queries.stream_chain(session, organization_id, first, last):
        await to_thread.run_sync(walk.follow, rows)
        if walk.failure is None:
            walk.failure = await _wrong_personal_value(session, rows)
        if walk.failure is not None:
            return


async def _start(
    session: AsyncSession, organization_id: int | None, sealed: Sealed, first: int
) -> Walk:
    archived = await queries.archived_ranges(session, chain_of(organization_id))
    before = await queries.hash_at(session, organization_id, first - 1) if first > 1 else GENESIS
    walk = Walk(first, before or b"", archived, sealed)
    if before is None:
        # The range may begin where an archive ends.
        ends = {piece.last_position: piece.last_hash for piece in archived.values()}
        walk.previous = ends.get(first - 1, b"")
        if not walk.previous:
            detail = "The row before the range is gone."
            walk.failure = _failure("removed", first - 1, None, detail)
    return walk


async def _wrong_personal_value(session: AsyncSession, rows: Sequence[Row]) -> Failure | None:
    """Check the personal values of rows whose own hashes are right against the commitments."""
    found = {
        mark: row
        for row in rows
        for column in ("old_values", "new_values")
        for mark in references(row[column])
    }
    if not found:
        return None
    values = await queries.committed_values(session, found)
    erased = await queries.erased_users(session, {value.erased_for for value in values.values()})
    for mark, row in found.items():
        if wrong := _fault_of(mark, values.get(mark), erased):
            return _failure("altered", row["position"], row, wrong)
    return None


def _fault_of(mark: bytes, value: PersonalValue | None, erased: set[int]) -> str | None:
    if value is None:
        return "A personal value that the row commits to is gone without an erasure."
    if value.value is None or value.salt is None:
        if value.erased_for in erased:
            return None
        return "A personal value that the row commits to was erased for nobody."
    if not is_kept(mark, value.salt, value.value):
        return "A personal value is not the one that the row commits to."
    return None
