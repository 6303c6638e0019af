"""One charge or refund in a process of its own, which a fail point kills.

python -m services.payments.tests.killed_charge reads settings and the charge, or the id of the
pending refund, as JSON from stdin.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from services.payments.app import NAME
from services.payments.events import CATALOGUE
from services.payments.gateways import AccountMode, Gateways
from services.payments.gateways.manual import ManualGateway
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.schemas import ChargeCreate
from services.payments.service import charges, refund_attempts
from services.payments.settings import Settings
from shared.db import make_engine
from shared.transactions import Transactions


def work_for(
    settings: Settings, stripe: StripeSettings, accounts: AccountMode, **work: Any
) -> dict[str, Any]:
    """Return what the process is to do: a `charge`, or an attempt of the refund `refund_id`."""
    return {
        "database_url": settings.database_url.get_secret_value(),
        "api_base": stripe.api_base,
        "api_key": stripe.api_key.get_secret_value(),
        "accounts": accounts,
        **work,
    }


async def run_until_killed(work: dict[str, Any], point: str, log: Path) -> None:
    """Start the process, which is killed when it passes a fail point for the first time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.payments.tests.killed_charge"),
        stdin=asyncio.subprocess.PIPE,
        env=os.environ | {"FAILPOINT": f"{point}:1", "FAILPOINTS_LOG": str(log)},
    )
    await process.communicate(json.dumps(work).encode())
    points = await asyncio.to_thread(log.read_text)
    assert (process.returncode, f"killed {point}" in points) == (-9, True)


async def main() -> None:
    """Charge once, or attempt one refund."""
    task = json.load(sys.stdin)
    stripe = StripeSettings(
        api_base=task["api_base"],
        api_key=SecretStr(task["api_key"]),
        webhook_secret=SecretStr("unused"),
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
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    if "refund_id" in task:
        await refund_attempts.attempt_refund(transactions.system, gateways, task["refund_id"])
    else:
        terms = ChargeCreate.model_validate(task["charge"])
        await charges.charge(transactions.system, gateways, terms)
    await gateways.aclose()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
