"""`python -m services.audit.verify [ORGANIZATION [--first N] [--last N]]`: walk the chains.

Without an organization every chain is walked, and the files of the archive are read as well when
AUDIT_ARCHIVE says where they are. The exit code is 1 when anything is wrong.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.audit import queries
from services.audit.app import NAME
from services.audit.errors import SealsUnreachable
from services.audit.events import CATALOGUE
from services.audit.evidence.archives import file_digest
from services.audit.evidence.seal_stores import store_at
from services.audit.models import Archive
from services.audit.schemas import ChainReport
from services.audit.service.seals import SealReader
from services.audit.service.verification import verify_chain, verify_everything
from services.audit.settings import VerificationSettings
from shared.db import make_engine
from shared.settings import load_settings
from shared.transactions import Transactions

UNREADABLE = 2
"""The exit code when nothing was verified, because the seals could not be read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A line for a person to read, and whether it is good news."""

    valid: bool
    line: str


async def findings(
    settings: VerificationSettings, organization_id: int | None, first: int, last: int | None
) -> list[Finding]:
    """Return what verifying showed: one organization's chain or a range of it, or everything."""
    engine = make_engine(settings.database_url, pool_size=1)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    evidence = await SealReader(store_at(settings.seals), settings.internal_jwks).evidence()
    try:
        async with transactions.system() as session:
            if organization_id is not None:
                report = await verify_chain(
                    session, organization_id, evidence, first=first, last=last
                )
                return [of_chain(report)]
            chains = [of_chain(report) for report in await verify_everything(session, evidence)]
            archives = await queries.archive_files(session)
        # No transaction waits for the files: a large one takes minutes.
        return chains + await of_files(archives, settings.archive)
    finally:
        await engine.dispose()


def of_chain(report: ChainReport) -> Finding:
    """Return a report as a person reads it."""
    whose = "no organization" if report.organization_id is None else report.organization_id
    sealed = f"sealed to {report.sealed}" if report.sealed else "not sealed"
    if report.failure is None:
        line = f"{whose}: {report.rows} rows as they were written, {sealed}"
        return Finding(True, line)
    failure = report.failure
    row = f", row {failure.row_id}, event {failure.event_id}" if failure.row_id else ""
    line = f"{whose}: WRONG at position {failure.position}{row}: {failure.kind}. {failure.detail}"
    return Finding(False, line)


async def of_files(archives: Sequence[Archive], folder: Path | None) -> list[Finding]:
    """Return a finding for every file of the archive."""
    if folder is None:
        unread = f"{len(archives)} files of the archive not read: AUDIT_ARCHIVE is not set"
        return [Finding(True, unread)] if archives else []
    return [await asyncio.to_thread(_of_file, archive, folder) for archive in archives]


def _of_file(archive: Archive, folder: Path) -> Finding:
    try:
        digest = file_digest(folder / archive.file)
    except OSError as error:
        return Finding(False, f"{archive.file}: WRONG, cannot be read: {error.strerror}")
    if digest != archive.sha256:
        return Finding(False, f"{archive.file}: WRONG, not the file that was archived")
    return Finding(True, f"{archive.file}: {archive.rows} rows as they were archived")


def main(arguments: Sequence[str]) -> int:
    """Print what was found, a line each; return the exit code."""
    parser = argparse.ArgumentParser(prog="services.audit.verify", description=__doc__)
    parser.add_argument("organization", nargs="?", type=int, help="an organization's id")
    parser.add_argument("--first", type=int, help="the first position of its chain, from 1")
    parser.add_argument("--last", type=int, help="the last position, inclusive")
    wanted = parser.parse_args(arguments)
    if wanted.organization is None and (wanted.first or wanted.last):
        parser.error("--first and --last are positions in one organization's chain")
    settings = load_settings(VerificationSettings)
    first = max(wanted.first or 1, 1)
    try:
        found = asyncio.run(findings(settings, wanted.organization, first, wanted.last))
    except SealsUnreachable as error:
        sys.stderr.write(f"The seals cannot be read: {error.__cause__}\n")
        return UNREADABLE
    sys.stdout.write("".join(f"{finding.line}\n" for finding in found))
    return 0 if all(finding.valid for finding in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
