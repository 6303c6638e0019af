"""One request for a saved card, for `killed.run_until_killed`."""

import asyncio
import json
import sys

from services.payments.schemas import SavedCardCreate
from services.payments.service import saved_cards
from services.payments.tests.killed import opened, work_of
from services.payments.tests.signals import CLIENT, ORGANIZATION
from shared.actors import Actor


async def main() -> None:
    """Store the card of the `body`, or remove the one with the `card_id`."""
    task = json.load(sys.stdin)
    client = Actor(user_id=CLIENT, role="client", organization_id=ORGANIZATION)
    async with opened(task) as (transactions, gateways):
        work = work_of(transactions)
        if "card_id" in task:
            await saved_cards.remove(work, client, gateways, task["card_id"])
        else:
            terms = SavedCardCreate.model_validate(task["body"])
            await saved_cards.save(work, client, gateways, terms)


if __name__ == "__main__":
    asyncio.run(main())
