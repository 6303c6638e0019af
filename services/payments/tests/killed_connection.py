"""One request for an organization's account, for `killed.run_until_killed`."""

import asyncio
import json
import sys

from services.payments.schemas.accounts import PaymentAccountConnect
from services.payments.service.account_connections import connect_account, disconnect_account
from services.payments.tests.killed import opened, work_of
from services.payments.tests.signals import ADMIN, ORGANIZATION


async def main() -> None:
    """Connect with the `body`, or disconnect without one."""
    task = json.load(sys.stdin)
    async with opened(task) as (transactions, gateways):
        work = work_of(transactions)
        if task["body"] is None:
            await disconnect_account(work, ADMIN, gateways, ORGANIZATION)
        else:
            body = PaymentAccountConnect.model_validate(task["body"])
            await connect_account(work, ADMIN, gateways, ORGANIZATION, body)


if __name__ == "__main__":
    asyncio.run(main())
