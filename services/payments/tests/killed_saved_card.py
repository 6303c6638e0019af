"""One request for a saved card in a process of its own, which a fail point may kill.

python -m services.payments.tests.killed_saved_card reads settings and the action as JSON from
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
from services.payments.schemas import SavedCardCreate
from services.payments.service import saved_cards
from services.payments.tests.signals import CLIENT, ORGANIZATION
from shared.actors import Actor
from shared.context import Origin
from shared.db import make_engine
from shared.tenancy import EVERYTHING
from shared.transactions import Transactions
from shared.work import Work


async def main() -> None:
    """Store a card, or remove the one whose id is named."""
    task = json.load(sys.stdin)
    stripe = StripeSettings(
        api_base=task["api_base"],
        api_key=SecretStr(task["api_key"]),
        webhook_secret=SecretStr("unused"),
        client_id="ca_LocalPlatform",
    )
    gateways = Gateways(
        dict.fromkeys(Method, StripeGateway(stripe)), accounts=AccountMode(task["accounts"])
    )
    engine = make_engine(SecretStr(task["database_url"]))
    work = Work(
        Transactions(engine, f"carnet/{NAME}", CATALOGUE), Origin("killed"), EVERYTHING, None
    )
    client = Actor(user_id=CLIENT, role="client", organization_id=ORGANIZATION)
    if task["card_id"] is None:
        terms = SavedCardCreate.model_validate(task["body"])
        await saved_cards.save(work, client, gateways, terms)
    else:
        await saved_cards.remove(work, client, gateways, task["card_id"])
    await gateways.aclose()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
