"""`python -m services.audit.verify`, as an operator runs it."""

import asyncio
import os
import sys

import pytest

from services.audit.settings import Settings
from services.audit.tests.conftest import deliver, event
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def verify(settings: Settings, *arguments: str) -> tuple[int | None, str]:
    values = {
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


async def test_it_says_what_it_found_and_how_it_ends(
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
