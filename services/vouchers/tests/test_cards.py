"""Cards are offered and taken only where the organization's account at a gateway may charge."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.vouchers.models import AccountMode
from services.vouchers.tests.events import deliver, payment_account
from services.vouchers.tests.outside import (
    CLIENT,
    ORGANIZATION,
    OTHER_ORGANIZATION,
    Organizations,
    Payments,
)
from services.vouchers.tests.people import Headers, People, buy, new_type
from services.vouchers.tests.test_round_trips import round_trips_of
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

ALL = ["credit_card", "bank_transfer", "cash", "other"]


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


async def offered(client: httpx.AsyncClient, headers: Headers) -> list[list[str]]:
    """Return the methods of payment of each offer, newest first."""
    answer = await client.get("/api/voucher-types/available", headers=headers)
    return [offer["payment_methods"] for offer in answer.json()]


async def is_refused(client: httpx.AsyncClient, headers: Headers, type_id: int) -> bool:
    """Return whether a purchase by card is refused because of the account."""
    answer = await buy(client, headers, type_id)
    assert answer.status_code in (201, 409), answer.text
    return answer.status_code == 409 and answer.json()["code"] == "cards_not_available"


async def test_without_an_account_other_methods_are_offered_and_sold(
    client: httpx.AsyncClient, people: People, database: Database, payments: Payments
) -> None:
    kind = await new_type(client, people.owner)
    assert await offered(client, people.client) == [ALL[1:]]
    refused = await buy(client, people.client, kind["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "cards_not_available")
    assert refused.json()["detail"] == (
        "The organization cannot take card payments at present. Choose another method of payment."
    )
    without_token = await buy(client, people.client, kind["id"], payment_token=None)
    assert without_token.json()["code"] == "cards_not_available"
    assert await database.rows("SELECT 1 FROM vouchers") == [], "nothing was sold"
    assert payments.orders == []
    for method in ALL[1:]:
        order = {"payment_method": method, "payment_token": None}
        assert (await buy(client, people.client, kind["id"], **order)).status_code == 201


async def test_an_account_that_may_charge_brings_cards(
    app: FastAPI, client: httpx.AsyncClient, people: People, transactions: Transactions
) -> None:
    kind = await new_type(client, people.owner)
    theirs = await new_type(client, people.other_owner, OTHER_ORGANIZATION)
    await deliver(transactions, payment_account("connected", 5, 2, ORGANIZATION))
    assert await offered(client, people.client) == [ALL]
    assert await offered(client, people.free_client) == [ALL[1:], ALL]
    assert (await buy(client, people.client, kind["id"])).status_code == 201
    assert await is_refused(client, people.other_client, theirs["id"])
    with round_trips_of(app) as messages:
        assert (await buy(client, people.client, kind["id"])).status_code == 201
    assert len(messages) == 7, "the account is read by the statement that reads the offer"


@pytest.mark.parametrize(
    "changes",
    [
        {"charges_enabled": False},
        {"status": "connecting"},
        {"status": "disconnected", "charges_enabled": False},
    ],
    ids=["restricted", "connecting", "disconnected"],
)
async def test_an_account_that_may_not_charge_brings_no_cards(
    client: httpx.AsyncClient, people: People, transactions: Transactions, changes: dict[str, Any]
) -> None:
    kind = await new_type(client, people.owner)
    what = "disconnected" if changes.get("status") == "disconnected" else "updated"
    enabled = payment_account("connected", 5, 2, ORGANIZATION)
    restricted = payment_account(what, 5, 3, ORGANIZATION, **changes)
    # The older event arrives last.
    await deliver(transactions, restricted, enabled)
    assert await offered(client, people.client) == [ALL[1:]]
    assert await is_refused(client, people.client, kind["id"])
    await deliver(transactions, payment_account("updated", 5, 4, ORGANIZATION))
    assert await offered(client, people.client) == [ALL]
    assert not await is_refused(client, people.client, kind["id"])


async def test_another_account_replaces_a_disconnected_one_and_may_be_replaced_by_it(
    client: httpx.AsyncClient, people: People, transactions: Transactions
) -> None:
    """An organization has a row for each account that it connected; each has its own versions."""
    kind = await new_type(client, people.owner)
    gone = {"status": "disconnected", "charges_enabled": False}
    await deliver(
        transactions,
        payment_account("connected", 9, 2, ORGANIZATION),
        payment_account("disconnected", 5, 7, ORGANIZATION, **gone),
    )
    assert not await is_refused(client, people.client, kind["id"])
    await deliver(
        transactions,
        payment_account("connected", 5, 8, ORGANIZATION),
        payment_account("disconnected", 9, 3, ORGANIZATION, **gone),
    )
    assert not await is_refused(client, people.client, kind["id"])


async def test_what_costs_nothing_needs_no_account(
    client: httpx.AsyncClient, people: People
) -> None:
    kind = await new_type(client, people.owner, price=0)
    assert await offered(client, people.client) == [ALL]
    answer = await buy(client, people.client, kind["id"], payment_token=None)
    assert (answer.status_code, answer.json()["status"]) == (201, "active")


async def test_an_outdated_copy_of_the_parties_does_not_lead_past_the_account(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    organizations: Organizations,
) -> None:
    kind = await new_type(client, people.owner)
    async with database.admin() as connection:
        await connection.execute("UPDATE organization_copies SET is_active = false, version = 0")
    before = organizations.calls
    assert await is_refused(client, people.client, kind["id"])
    assert organizations.calls == before + 1
    assert await database.rows("SELECT 1 FROM vouchers") == []


async def test_an_account_that_was_restricted_meanwhile_cancels_the_voucher(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    payments: Payments,
    transactions: Transactions,
) -> None:
    kind = await new_type(client, people.owner)
    await deliver(transactions, payment_account("connected", 5, 2, ORGANIZATION))
    key = people.client | {"Idempotency-Key": "6f1f7f5e-5a0f-4d9b-9d53-0b4b2c1f2c55"}
    for _ in range(2):
        answer = await buy(client, key, kind["id"], payment_token="pm_late")
        assert (answer.status_code, answer.json()["code"]) == (409, "cards_not_available")
    [voucher] = await database.rows("SELECT status, payment_status, client_id FROM vouchers")
    assert dict(voucher) == {
        "status": "cancelled",
        "payment_status": "failed",
        "client_id": CLIENT,
    }
    assert payments.charged == []
