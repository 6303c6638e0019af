"""One request for an account in a process of its own, which a fail point may kill.

python -m services.payments.tests.killed_connection reads settings and the action as JSON from
stdin.
"""

import asyncio
import json
import sys

from pydantic import SecretStr

from services.payments.app import NAME
from services.payments.events import CATALOGUE
from services.payments.gateways import AccountMode, Gateways
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.schemas.accounts import (
    PaymentAccountConnect,
)
from services.payments.service.account_connections import connect_account, disconnect_account
from services.payments.tests.signals import ADMIN
from shared.context import Origin
from shared.db import make_engine
from shared.tenancy import EVERYTHING
from shared.transactions import Transactions
from shared.work import Work


async def main() -> None:
    """Connect or disconnect once."""
    task = json.load(sys.stdin)
    stripe = StripeSettings(
        api_base=task["api_base"],
        api_key=SecretStr(task["api_key"]),
        webhook_secret=SecretStr("unused"),
        client_id="ca_LocalPlatform",
    )
    gateways = Gateways(
        dict.fromkeys(Method, StripeGateway(stripe)), accounts=AccountMode.ORGANIZATION
    )
    engine = make_engine(SecretStr(task["database_url"]))
    work = Work(
        Transactions(engine, f"carnet/{NAME}", CATALOGUE), Origin("killed"), EVERYTHING, None
    )
    if task["body"] is None:
        await disconnect_account(work, ADMIN, gateways, task["organization_id"])
    else:
        body = PaymentAccountConnect.model_validate(task["body"])
        await connect_account(work, ADMIN, gateways, task["organization_id"], body)
    await gateways.aclose()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
