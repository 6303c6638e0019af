"""`python -m services.audit.retention`: archive the months that are past their retention.

It runs as the schema's owner, like a migration, and prints the files that it wrote.
"""

import asyncio
import sys
from datetime import UTC, datetime

from services.audit.service.retention import archive_due
from services.audit.settings import RetentionSettings
from shared.settings import load_settings

if __name__ == "__main__":
    files = asyncio.run(archive_due(load_settings(RetentionSettings), datetime.now(UTC)))
    sys.stdout.write("".join(f"{path}\n" for path in files) or "No month is due.\n")
