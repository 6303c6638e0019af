"""`python -m services.audit.verify [ORGANIZATION [--first N] [--last N]]`: verify the chains.

Without an organization every chain is verified, and the files of the archive too if AUDIT_ARCHIVE
is their folder. The exit code is 1 if anything is wrong.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from services.audit.app import NAME
from services.audit.errors import SealsUnreachable
from services.audit.events import CATALOGUE
from services.audit.evidence.seal_stores import store_at
from services.audit.service.findings import Finding, find_everywhere, find_in_chain
from services.audit.service.seals import SealReader
from services.audit.settings import VerificationSettings
from shared.db import make_engine
from shared.settings import load_settings
from shared.transactions import Transactions

UNREADABLE = 2
"""The exit code if nothing was verified, because the seals could not be read."""


async def findings(
    settings: VerificationSettings, organization_id: int | None, first: int, last: int | None
) -> list[Finding]:
    """Verify one organization's chain or a range of it, or everything, and return the lines."""
    evidence = await SealReader(store_at(settings.seals), settings.internal_jwks).evidence()
    engine = make_engine(settings.database_url, pool_size=1)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    try:
        if organization_id is None:
            return await find_everywhere(transactions, evidence, settings.archive)
        return await find_in_chain(transactions, evidence, organization_id, first, last)
    finally:
        await engine.dispose()


def main(arguments: Sequence[str]) -> int:
    """Print a line for each finding; return the exit code."""
    parser = argparse.ArgumentParser(prog="services.audit.verify", description=__doc__)
    parser.add_argument("organization", nargs="?", type=int, help="an organization's id")
    parser.add_argument("--first", type=int, help="the first position of its chain, from 1")
    parser.add_argument("--last", type=int, help="the last position, inclusive")
    options = parser.parse_args(arguments)
    if options.organization is None and (options.first or options.last):
        parser.error("--first and --last are positions in one organization's chain")
    settings = load_settings(VerificationSettings)
    first = max(options.first or 1, 1)
    try:
        results = asyncio.run(findings(settings, options.organization, first, options.last))
    except SealsUnreachable as error:
        sys.stderr.write(f"The seals cannot be read: {error.__cause__}\n")
        return UNREADABLE
    sys.stdout.write("".join(f"{finding.line}\n" for finding in results))
    return 0 if all(finding.valid for finding in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
