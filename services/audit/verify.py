"""`python -m services.audit.verify [ORGANIZATION]`: walk the chains; exit 1 when one is wrong."""

import asyncio
import sys
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from services.audit.app import NAME
from services.audit.events import CATALOGUE
from services.audit.schemas import ChainReport
from services.audit.seals import SealReader, store_at
from services.audit.verification import verify_chain, verify_everything
from shared.db import make_engine
from shared.settings import DatabaseUrl
from shared.transactions import Transactions


class VerificationSettings(BaseSettings):
    """What verifying needs of the service's settings, prefix AUDIT_."""

    model_config = SettingsConfigDict(env_prefix="AUDIT_", extra="ignore")

    database_url: DatabaseUrl
    internal_jwks: str
    seals: Path | None = None


async def reports(settings: VerificationSettings, organization_id: int | None) -> list[ChainReport]:
    """Return a report on every chain, or on one organization's."""
    engine = make_engine(settings.database_url, pool_size=1)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    evidence = await SealReader(store_at(settings.seals), settings.internal_jwks).evidence()
    try:
        async with transactions.system() as session:
            if organization_id is not None:
                return [await verify_chain(session, organization_id, evidence)]
            return await verify_everything(session, evidence)
    finally:
        await engine.dispose()


def line_of(report: ChainReport) -> str:
    """Return a report as a person reads it."""
    whose = "no organization" if report.organization_id is None else report.organization_id
    sealed = f"sealed to {report.sealed}" if report.sealed else "not sealed"
    if report.failure is None:
        return f"{whose}: {report.rows} rows as they were written, {sealed}"
    failure = report.failure
    row = f", row {failure.row_id}, event {failure.event_id}" if failure.row_id else ""
    return f"{whose}: WRONG at position {failure.position}{row}: {failure.kind}. {failure.detail}"


def main(arguments: list[str]) -> int:
    """Print a line for each chain; return the exit code."""
    wanted = int(arguments[0]) if arguments else None
    found = asyncio.run(reports(VerificationSettings(), wanted))
    sys.stdout.write("".join(f"{line_of(report)}\n" for report in found))
    return 0 if all(report.valid for report in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
