"""`python -m services.audit.retention`: archive the months that are past their retention.

It runs as the schema's owner, like a migration, and prints the files that it wrote.
"""

import asyncio
import sys
from datetime import datetime
from pathlib import Path

from services.audit.app import NAME
from services.audit.events import CATALOGUE
from services.audit.service.retention import archive_months
from services.audit.settings import RetentionSettings
from shared.db import make_engine, now
from shared.settings import load_settings
from shared.transactions import Transactions


async def archive_due(settings: RetentionSettings, moment: datetime) -> list[Path]:
    """Archive every month that is due; return the files.

    Raises RowAltered for a month with a row that was tampered with: it is not archived.
    """
    # One connection holds the lock of the run, the other one the transaction of a month.
    engine = make_engine(settings.owner_database_url, pool_size=2)
    try:
        transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
        return await archive_months(
            transactions, settings.archive, moment, settings.retention_months
        )
    finally:
        await engine.dispose()


if __name__ == "__main__":
    files = asyncio.run(archive_due(load_settings(RetentionSettings), now()))
    sys.stdout.write("".join(f"{path}\n" for path in files) or "No month is due.\n")
