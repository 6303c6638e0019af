"""The results of a verification, as lines for an operator."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from services.audit import queries
from services.audit.evidence.archives import file_digest
from services.audit.evidence.sealed_heads import Evidence
from services.audit.models import Archive
from services.audit.schemas import ChainReport
from services.audit.service.verification import verify_chain, verify_everything
from shared.transactions import Transactions


@dataclass(frozen=True, slots=True)
class Finding:
    """A line for an operator to read, and whether what it reports is as it must be."""

    valid: bool
    line: str


async def find_in_chain(
    transactions: Transactions,
    evidence: Evidence,
    organization_id: int,
    first: int,
    last: int | None,
) -> list[Finding]:
    """Verify a range of one organization's chain."""
    async with transactions.system() as session:
        report = await verify_chain(session, organization_id, evidence, first=first, last=last)
    return [_of_chain(report)]


async def find_everywhere(
    transactions: Transactions, evidence: Evidence, folder: Path | None
) -> list[Finding]:
    """Verify every chain, and the files of the archive if their folder is known."""
    async with transactions.system() as session:
        chains = [_of_chain(report) for report in await verify_everything(session, evidence)]
        archives = await queries.list_archives(session)
    if folder is None:
        line = f"{len(archives)} files of the archive not read: AUDIT_ARCHIVE is not set"
        return chains + ([Finding(True, line)] if archives else [])
    # No transaction waits for the files: a large one takes minutes.
    return chains + [await asyncio.to_thread(_of_file, archive, folder) for archive in archives]


def _of_chain(report: ChainReport) -> Finding:
    """Return the line of a report."""
    whose = "no organization" if report.organization_id is None else report.organization_id
    seals = f"sealed to {report.sealed}" if report.sealed else "not sealed"
    if report.failure is None:
        line = f"{whose}: {report.rows} rows as they were written, {seals}"
        return Finding(True, line)
    failure = report.failure
    row = f", row {failure.row_id}, event {failure.event_id}" if failure.row_id else ""
    line = f"{whose}: WRONG at position {failure.position}{row}: {failure.kind}. {failure.detail}"
    return Finding(False, line)


def _of_file(archive: Archive, folder: Path) -> Finding:
    try:
        digest = file_digest(folder / archive.file)
    except OSError as error:
        return Finding(False, f"{archive.file}: WRONG, cannot be read: {error.strerror}")
    if digest != archive.sha256:
        return Finding(False, f"{archive.file}: WRONG, not the file that was archived")
    return Finding(True, f"{archive.file}: {archive.rows} rows as they were archived")
