"""One charge in a process of its own, which a fail point may kill.

python -m services.payments.tests.killed_charge reads settings and the charge as JSON from stdin.
"""

import asyncio
import json
import sys

from pydantic import SecretStr

from services.payments.app import NAME
from services.payments.events import CATALOGUE
from services.payments.gateways import Gateways
from services.payments.gateways.manual import ManualGateway
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.schemas import ChargeCreate
from services.payments.service import charges
from shared.db import make_engine
from shared.transactions import Transactions


async def main() -> None:
    """Charge once."""
    given = json.load(sys.stdin)
    stripe = StripeSettings(
        api_base=given["api_base"],
        api_key=SecretStr(given["api_key"]),
        webhook_secret=SecretStr("unused"),
    )
    manual = ManualGateway()
    gateways = Gateways(
        {
            method: StripeGateway(stripe) if method == Method.CREDIT_CARD else manual
            for method in Method
        }
    )
    engine = make_engine(SecretStr(given["database_url"]))
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    terms = ChargeCreate.model_validate(given["charge"])
    await charges.charge(transactions.system, gateways, terms)
    await gateways.aclose()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
