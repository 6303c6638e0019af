"""Work in a process of its own, which a fail point kills.

The programs `killed_….py` read their settings and their work as JSON from stdin.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from services.payments.app import NAME
from services.payments.events import CATALOGUE
from services.payments.gateways import AccountMode, Gateways
from services.payments.gateways.manual import ManualGateway
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.settings import Settings
from shared.context import Origin
from shared.db import make_engine
from shared.tenancy import EVERYTHING
from shared.transactions import Transactions
from shared.work import Work


def work_for(
    settings: Settings, stripe: StripeSettings, accounts: AccountMode, **work: Any
) -> dict[str, Any]:
    """Return what a process is to do, with the settings that it needs."""
    return {
        "database_url": settings.database_url.get_secret_value(),
        "api_base": stripe.api_base,
        "api_key": stripe.api_key.get_secret_value(),
        "accounts": accounts,
        **work,
    }


async def run_until_killed(
    program: str, work: dict[str, Any], point: str, log: Path, passes: int = 1
) -> None:
    """Run a program, which is killed when it passes a fail point for the n-th time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.payments.tests.{program}"),
        stdin=asyncio.subprocess.PIPE,
        env=os.environ | {"FAILPOINT": f"{point}:{passes}", "FAILPOINTS_LOG": str(log)},
    )
    await process.communicate(json.dumps(work).encode())
    points = await asyncio.to_thread(log.read_text)
    assert (process.returncode, f"killed {point}" in points) == (-9, True)


@asynccontextmanager
async def opened(task: dict[str, Any]) -> AsyncIterator[tuple[Transactions, Gateways]]:
    """Open the database and the gateways that a process reads from stdin."""
    stripe = StripeSettings(
        api_base=task["api_base"],
        api_key=SecretStr(task["api_key"]),
        webhook_secret=SecretStr("unused"),
        client_id="ca_LocalPlatform",
    )
    manual = ManualGateway()
    gateways = Gateways(
        {
            method: StripeGateway(stripe) if method == Method.CREDIT_CARD else manual
            for method in Method
        },
        accounts=AccountMode(task["accounts"]),
    )
    engine = make_engine(SecretStr(task["database_url"]))
    yield Transactions(engine, f"carnet/{NAME}", CATALOGUE), gateways
    await gateways.aclose()
    await engine.dispose()


def work_of(transactions: Transactions) -> Work:
    """Return the unit of work of a request without an Idempotency-Key."""
    return Work(transactions, Origin("killed"), EVERYTHING, None)
