"""A walk along one chain, which finds the first row that is not as it was written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.audit.evidence.chain import ChainEnd, hash_of
from services.audit.evidence.sealed_heads import SealedHeads
from services.audit.models import ArchivedRange
from services.audit.queries import Row
from services.audit.schemas import Failure

FailureKind = Literal[
    "altered", "inserted", "removed", "missing_at_the_end", "rewritten", "seal_broken"
]


@dataclass(slots=True)
class ChainWalk:
    """A walk along one chain.

    `expected` is the position that must be next, `previous` the hash of the row before it,
    `last_sealed` the newest position that agreed with a seal, `rows` how many rows were checked.
    """

    expected: int
    previous: bytes
    archived: Mapping[int, ArchivedRange]
    sealed: SealedHeads
    rows: int = 0
    last_sealed: int = 0
    failure: Failure | None = None

    def follow(self, rows: Sequence[Row]) -> None:
        """Check the next rows, up to the first that is wrong."""
        for row in rows:
            self.failure = self._step(row)
            if self.failure:
                return

    def _step(self, row: Row) -> Failure | None:
        self.pass_archives()
        position = row["position"]
        if position < self.expected:
            return failure("inserted", position, row, "There is a second row at this position.")
        if position > self.expected:
            return failure("removed", self.expected, None, "The row at this position is missing.")
        if hash_of(row) != row["hash"]:
            return failure("altered", position, row, "The row does not have the hash it carries.")
        if row["previous_hash"] != self.previous:
            return failure("inserted", position, row, "The row does not continue the one before.")
        sealed_hash = self.sealed.get(position)
        if sealed_hash is not None and sealed_hash != row["hash"]:
            detail = f"The signed seal of position {position} belongs to another chain."
            return failure("rewritten", self.last_sealed + 1, row, detail)
        if sealed_hash is not None:
            self.last_sealed = position
        self.expected, self.previous, self.rows = position + 1, row["hash"], self.rows + 1
        return None

    def pass_archives(self) -> None:
        """Step over the pieces that are in an archive, if their hashes join."""
        while (piece := self.archived.get(self.expected)) is not None:
            if piece.previous_hash != self.previous:
                return
            self.expected, self.previous = piece.last_position + 1, piece.last_hash

    def stop_at(self, last: int) -> None:
        """Check that the walk reached the end of its range, which is not the chain's end."""
        self.pass_archives()
        if self.expected <= last:
            detail = "The row at this position is missing."
            self.failure = failure("removed", self.expected, None, detail)

    def end_at(self, end: ChainEnd) -> None:
        """Check that the chain ends where its head and the newest seal end."""
        self.pass_archives()
        last = max(end.position, self.sealed.newest)
        if self.expected <= last:
            detail = f"The chain continued to position {last}."
            self.failure = failure("missing_at_the_end", self.expected, None, detail)
        elif self.previous != end.hash:
            detail = "The last row does not have the hash of the chain's head."
            self.failure = failure("altered", self.expected - 1, None, detail)
        elif end.newest_row > end.position:
            detail = "There are rows behind the chain's head."
            self.failure = failure("inserted", end.position + 1, None, detail)


def failure(kind: FailureKind, position: int, row: Row | None, detail: str) -> Failure:
    """Return the report of a row, or of a position without one, that is not as it was written."""
    return Failure(
        kind=kind,
        position=position,
        row_id=row["id"] if row else None,
        event_id=row["event_id"] if row else None,
        detail=detail,
    )
