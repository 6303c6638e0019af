"""`python -m services.audit.verify [ORGANIZATION [--first N] [--last N]]`: walk the chains.

Without an organization every chain is walked, and the files of the archive are read as well when
AUDIT_ARCHIVE says where they are. The exit code is 1 when anything is wrong.
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
"""The exit code when nothing was verified, because the seals could not be read."""


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
