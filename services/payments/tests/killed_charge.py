"""One charge, or one attempt of a pending refund, for `killed.run_until_killed`."""

import asyncio
import json
import sys

from services.payments.schemas import ChargeCreate
from services.payments.service import charges, refund_attempts
from services.payments.tests.killed import opened


async def main() -> None:
    """Make the `charge`, or attempt the refund `refund_id`."""
    task = json.load(sys.stdin)
    async with opened(task) as (transactions, gateways):
        begin = transactions.system
        if "refund_id" in task:
            await refund_attempts.attempt_refund(begin, gateways, task["refund_id"])
        else:
            await charges.charge(begin, gateways, ChargeCreate.model_validate(task["charge"]))


if __name__ == "__main__":
    asyncio.run(main())
