"""The two transactions of a purchase: what changes between them, and who may see what in them."""

from typing import Any

import httpx
import pytest

from services.vouchers.tests.events import deliver_once, payment
from services.vouchers.tests.outside import CLIENT, ORGANIZATION, Payments
from services.vouchers.tests.people import People, buy, new_type
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": "one-purchase"}


async def _types_of_events(database: Database) -> list[str]:
    types = [event["type"].removeprefix("vouchers.voucher.") for event in await database.events()]
    return types[1:]


@pytest.mark.parametrize("key", [{}, KEY])
async def test_a_change_during_the_charge_is_kept(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    payments: Payments,
    key: dict[str, str],
) -> None:
    kind = await new_type(client, people.owner)

    async def change_notes(voucher_id: int) -> None:
        path = f"/api/vouchers/{voucher_id}"
        answer = await client.put(path, json={"notes": "Evenings"}, headers=people.manager)
        assert answer.status_code == 200, answer.text

    payments.during_charge = change_notes
    answer = await buy(client, people.client | key, kind["id"])
    voucher = answer.json()
    assert (answer.status_code, voucher["status"], voucher["notes"]) == (201, "active", "Evenings")
    assert len(voucher["codes"]) == 12
    expected = ["purchased.v1", "updated.v1", "activated.v1"]
    assert await _types_of_events(database) == expected


@pytest.mark.parametrize("key", [{}, KEY])
async def test_an_event_that_overtakes_the_answer_activates_once(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    payments: Payments,
    transactions: Transactions,
    key: dict[str, str],
) -> None:
    kind = await new_type(client, people.owner)

    async def deliver_success(voucher_id: int) -> None:
        event = payment("succeeded", voucher_id, invoice_number="OUR-2026-000001")
        await deliver_once(transactions, event)

    payments.during_charge = deliver_success
    answer = await buy(client, people.client | key, kind["id"])
    assert (answer.status_code, answer.json()["status"]) == (201, "active")
    rows = await database.rows("SELECT code FROM voucher_codes ORDER BY is_backup, id")
    assert [code["code"] for code in answer.json()["codes"]] == [row["code"] for row in rows]
    assert len(rows) == 12
    assert await _types_of_events(database) == ["purchased.v1", "activated.v1"]


@pytest.mark.parametrize("key", [{}, KEY])
async def test_a_voucher_cancelled_during_the_charge_is_paid_and_refused(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    payments: Payments,
    key: dict[str, str],
) -> None:
    kind = await new_type(client, people.owner)

    async def cancel(voucher_id: int) -> None:
        answer = await client.post(f"/api/vouchers/{voucher_id}/cancel", headers=people.client)
        assert answer.status_code == 200, answer.text

    payments.during_charge = cancel
    answer = await buy(client, people.client | key, kind["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "voucher_cancelled")
    [row] = await database.rows("SELECT status, payment_status FROM vouchers")
    assert row == {"status": "cancelled", "payment_status": "paid"}
    if key:
        again = await buy(client, people.client | key, kind["id"])
        assert (again.status_code, again.headers["idempotent-replayed"]) == (409, "true")


async def test_only_the_first_request_for_a_charge_is_called_first(
    client: httpx.AsyncClient, people: People, payments: Payments
) -> None:
    kind = await new_type(client, people.owner)
    payments.break_after = httpx.ReadTimeout("lost")
    assert (await buy(client, people.client | KEY, kind["id"])).status_code == 503
    payments.break_after = None
    assert (await buy(client, people.client | KEY, kind["id"])).status_code == 201
    assert [order["first"] for order in payments.orders] == [True, False]


async def test_the_response_commits_with_the_activation(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    kind = await new_type(client, people.owner)
    assert (await buy(client, people.client | KEY, kind["id"])).status_code == 201
    statement = (
        "SELECT k.xmin = v.xmin AS is_one, k.status, k.leased_until"
        " FROM idempotency_keys k JOIN vouchers v ON v.id = k.resource_id"
    )
    rows = await database.rows(statement)
    assert rows == [{"is_one": True, "status": 201, "leased_until": None}]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"client_id": 22}, 403, "forbidden"),
        ({"voucher_type_id": 999_999}, 404, "voucher_type_not_found"),
        ({"payment_token": "pm_declined"}, 402, "payment_declined"),
    ],
)
async def test_a_refusal_is_the_answer_of_its_key(
    client: httpx.AsyncClient,
    people: People,
    payments: Payments,
    changes: dict[str, Any],
    status: int,
    code: str,
) -> None:
    kind = await new_type(client, people.owner)
    for replayed in (False, True):
        answer = await buy(client, people.client | KEY, kind["id"], **changes)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert ("idempotent-replayed" in answer.headers) is replayed
    other = await buy(client, people.client | KEY, kind["id"], notes="Another body")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert payments.charged == []


async def test_whoever_sees_less_than_the_sale_sells_with_a_key_as_well(
    client: httpx.AsyncClient, people: People
) -> None:
    kind = await new_type(client, people.owner)
    order = {"client_id": CLIENT, "voucher_type_id": kind["id"], "payment_method": "cash"}
    path = f"/api/organizations/{ORGANIZATION}/vouchers"
    issued = await client.post(path, json=order, headers=people.manager | KEY)
    assert issued.status_code == 201, issued.text
    assert (await client.post(path, json=order, headers=people.manager | KEY)).json() == (
        issued.json()
    )
    for headers, changes in ((people.free_client, {}), (people.admin, {"client_id": CLIENT})):
        bought = await buy(client, headers | KEY, kind["id"], **changes)
        assert (bought.status_code, bought.json()["status"]) == (201, "active"), bought.text
        again = await buy(client, headers | KEY, kind["id"], **changes)
        assert (again.json(), again.headers["idempotent-replayed"]) == (bought.json(), "true")
