"""The local card gateway reports connected accounts to the endpoint that is theirs."""

import httpx
import pytest

from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows
from shared.testing import until

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]


async def test_events_of_a_connected_account_are_verified_and_stored(
    stack: Stack, rows: Rows
) -> None:
    system = stack.system
    async with httpx.AsyncClient(
        base_url=system.stripe_api_base, auth=(system.stripe_api_key, "")
    ) as gateway:
        answer = await gateway.post("/v1/accounts", data={"country": "PL"})
        account = answer.raise_for_status().json()["id"]
        changed = await gateway.post(f"/_test/accounts/{account}", data={"outcome": "complete"})
        changed.raise_for_status()

    async def is_stored() -> bool:
        query = "SELECT outcome FROM payments.webhook_events WHERE account = $1"
        events = await rows(query, account)
        return [event["outcome"] for event in events] == ["unchanged"]

    await until(is_stored)
