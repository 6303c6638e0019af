"""`python -m services.audit.verify`, as an operator runs it."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.audit.retention import archive_due
from services.audit.settings import RetentionSettings, Settings
from services.audit.tests.conftest import deliver, event
from services.audit.tests.test_retention import NOW, OLD, tell
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def verify(settings: Settings, *arguments: str, **more: str) -> tuple[int | None, str]:
    values = {
        **more,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "INTERNAL_JWKS": settings.internal_jwks,
        "SEALS": str(settings.seals),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.audit.verify",
        *arguments,
        env={**os.environ, **{f"AUDIT_{name}": value for name, value in values.items()}},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_it_reports_its_findings_and_its_exit_code(
    database: Database, transactions: Transactions, settings: Settings
) -> None:
    await deliver(transactions, event(), event(organization_id=None), event())
    code, output = await verify(settings)
    assert code == 0
    assert output == (
        "no organization: 1 rows as they were written, not sealed\n"
        "7: 2 rows as they were written, not sealed\n"
    )
    async with database.admin() as admin:
        await admin.execute("SET session_replication_role = replica")
        await admin.execute("UPDATE audit_logs SET action = 'X' WHERE position = 2")
    code, output = await verify(settings, "7")
    assert code == 1
    assert output.startswith("7: WRONG at position 2, row ")
    code, output = await verify(settings, "7", "--last=1")
    assert (code, output) == (0, "7: 1 rows as they were written, not sealed\n")


async def test_it_reads_the_files_of_the_archive(
    database: Database, transactions: Transactions, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    retention = RetentionSettings(owner_database_url=database.owner_url, archive=folder)
    await deliver(transactions, event(time=OLD), event(time=datetime(2026, 9, 1, tzinfo=UTC)))
    [file] = await archive_due(retention, NOW)
    await tell(database, transactions)
    code, output = await verify(settings)
    assert code == 0
    assert "1 files of the archive not read" in output
    code, output = await verify(settings, ARCHIVE=str(folder))
    assert code == 0
    assert f"{file.name}: 1 rows as they were archived" in output
    file.write_bytes(file.read_bytes() + b"x")
    code, output = await verify(settings, ARCHIVE=str(folder))
    assert code == 1
    assert f"{file.name}: WRONG, not the file" in output
    file.unlink()
    code, output = await verify(settings, ARCHIVE=str(folder))
    assert code == 1
    assert f"{file.name}: WRONG, cannot be read" in output
