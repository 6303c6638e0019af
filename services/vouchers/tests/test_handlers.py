"""The events of other services: each one delivered twice, and in the wrong order."""

from typing import Any

import httpx
import pytest

from services.vouchers.handlers import FALLBACKS, find_settled
from services.vouchers.service.settlement import PaymentMismatch
from services.vouchers.tests.events import deliver, deliver_once, event, payment, refund
from services.vouchers.tests.outside import CLIENT, ORGANIZATION
from services.vouchers.tests.people import People, buy, new_type, new_voucher
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

ORGANIZATION_STATE: dict[str, Any] = {
    "name": "Practice",
    "slug": "practice",
    "address": None,
    "phone": None,
    "email": None,
    "tax_id": None,
    "logo_url": None,
    "timezone": "Asia/Tokyo",
    "currency": "JPY",
    "is_active": True,
    "founded_by": "a user who is not read",
}
USER_STATE: dict[str, Any] = {
    "name": "Maria",
    "email": "maria@example.com",
    "role": "client",
    "organization_id": ORGANIZATION,
    "is_active": False,
    "phone": "unneeded",
}


async def _pending(client: httpx.AsyncClient, people: People) -> int:
    kind = await new_type(client, people.owner)
    answer = await buy(client, people.client, kind["id"], payment_token="pm_3ds")
    number: int = answer.json()["id"]
    return number


async def _voucher(database: Database, number: int) -> dict[str, Any]:
    [row] = await database.rows("SELECT * FROM vouchers WHERE id = $1", number)
    return row


async def _types(database: Database) -> list[str]:
    return [event["type"].removeprefix("vouchers.") for event in await database.events()][2:]


async def test_a_payment_activates_its_voucher_once(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    number = await _pending(client, people)
    paid = payment(
        "succeeded",
        number,
        invoice_number="OUR-2026-000001",
        completed_at="2026-03-28T23:30:00+00:00",
    )
    await deliver(transactions, paid)
    await deliver(transactions, payment("succeeded", number), payment("failed", number))
    voucher = await _voucher(database, number)
    assert (voucher["status"], voucher["payment_status"]) == ("active", "paid")
    assert voucher["invoice_number"] == "OUR-2026-000001"
    assert voucher["valid_from"].isoformat() == "2026-03-29", "it is tomorrow in Warsaw already"
    assert voucher["valid_until"].isoformat() == "2026-06-26", "90 days, both inclusive"
    assert len(await database.rows("SELECT 1 FROM voucher_codes")) == 12
    assert await _types(database) == ["voucher.activated.v1"]
    data = (await database.events())[-1]["data"]
    assert (data["actor"]["role"], data["causation_id"]) == ("system", paid.id)
    assert data["correlation_id"] == "story"


@pytest.mark.parametrize("what", ["failed", "cancelled"])
async def test_a_payment_that_will_not_come_cancels_its_voucher(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    transactions: Transactions,
    what: str,
) -> None:
    number = await _pending(client, people)
    await deliver(transactions, payment(what, number))
    voucher = await _voucher(database, number)
    assert (voucher["status"], voucher["payment_status"]) == ("cancelled", "failed")
    assert await _types(database) == ["voucher.cancelled.v1"]


async def test_the_answer_and_the_event_of_one_payment_have_one_effect(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    voucher = await new_voucher(client, people)
    paid = payment("succeeded", voucher["id"], invoice_number=voucher["invoice_number"])
    await deliver(transactions, paid)
    assert await _types(database) == ["voucher.activated.v1"]
    assert len(await database.rows("SELECT 1 FROM voucher_codes")) == 12


async def test_money_for_a_cancelled_voucher_is_noted_and_brings_no_codes(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    number = await _pending(client, people)
    await client.post(f"/api/vouchers/{number}/cancel", headers=people.client)
    await deliver(transactions, payment("succeeded", number))
    voucher = await _voucher(database, number)
    assert (voucher["status"], voucher["payment_status"]) == ("cancelled", "paid")
    assert await database.rows("SELECT 1 FROM voucher_codes") == []
    assert await _types(database) == ["voucher.cancelled.v1", "voucher.updated.v1"]


@pytest.mark.parametrize("changes", [{"amount": "0.01"}, {"currency": "USD"}])
async def test_a_payment_of_something_else_activates_nothing(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    transactions: Transactions,
    changes: dict[str, str],
) -> None:
    number = await _pending(client, people)
    with pytest.raises(PaymentMismatch):
        await deliver_once(transactions, payment("succeeded", number, **changes))
    assert (await _voucher(database, number))["status"] == "pending"
    assert await database.rows("SELECT 1 FROM inbox") == []


async def test_refunds_in_part_and_in_full(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    voucher = await new_voucher(client, people)
    await deliver(transactions, refund(voucher["id"], "100.00"))
    part = await _voucher(database, voucher["id"])
    assert (part["status"], part["payment_status"]) == ("active", "partially_refunded")
    await deliver(transactions, refund(voucher["id"], "399.99"))
    await deliver(transactions, refund(voucher["id"], "100.00"))
    whole = await _voucher(database, voucher["id"])
    assert (whole["status"], whole["payment_status"]) == ("cancelled", "refunded")
    types = (await _types(database))[1:]
    assert types == ["voucher.reduced.v1", "voucher.cancelled.v1"]


async def test_a_refund_that_overtakes_its_payment(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    number = await _pending(client, people)
    await deliver(transactions, refund(number, "399.99"), payment("succeeded", number))
    voucher = await _voucher(database, number)
    assert (voucher["status"], voucher["payment_status"]) == ("cancelled", "refunded")
    part = await _pending(client, people)
    await deliver(transactions, refund(part, "1.00"), payment("succeeded", part))
    voucher = await _voucher(database, part)
    assert (voucher["status"], voucher["payment_status"]) == ("active", "partially_refunded")


async def test_organizations_are_copied_and_older_news_ignored(
    database: Database, transactions: Transactions
) -> None:
    name = "organizations.organization"
    created = event(f"{name}.created.v1", 50, 1, **ORGANIZATION_STATE)
    renamed = event(f"{name}.updated.v1", 50, 2, name="Renamed", updated_by="somebody")
    closed = event(f"{name}.deactivated.v1", 50, 3, is_active=False)
    await deliver(transactions, event(f"{name}.updated.v1", 51, 4, name="Unknown"))
    await deliver(transactions, created, closed, renamed)
    [copy] = await database.rows("SELECT * FROM organization_copies")
    assert (copy["id"], copy["version"], copy["name"]) == (50, 3, "Practice")
    assert (copy["timezone"], copy["is_active"]) == ("Asia/Tokyo", False)
    assert await database.events() == []


async def test_users_are_copied_and_forgotten(
    database: Database, transactions: Transactions
) -> None:
    name = "identity.user"
    created = event(f"{name}.created.v1", 60, 1, **USER_STATE)
    approved = event(f"{name}.approved.v1", 60, 2, is_active=True, approved_by=1)
    removed = event(f"{name}.updated.v1", 60, 3, organization_id=None)
    await deliver(transactions, created, approved, removed)
    [copy] = await database.rows("SELECT * FROM client_copies")
    assert (copy["is_active"], copy["organization_id"], copy["version"]) == (True, None, 3)
    await deliver(transactions, event(f"{name}.deleted.v1", 60, 4, tokens_not_before=1.5))
    [copy] = await database.rows("SELECT * FROM client_copies")
    assert (copy["name"], copy["email"], copy["is_active"]) == (None, None, False)


async def test_a_closed_organization_sells_nothing_once_we_heard(
    client: httpx.AsyncClient, people: People, transactions: Transactions, organizations: Any
) -> None:
    kind = await new_type(client, people.owner)
    organizations.known[ORGANIZATION].update(is_active=False, version=2)
    closed = event("organizations.organization.deactivated.v1", ORGANIZATION, 2, is_active=False)
    await deliver(transactions, closed)
    offers = await client.get("/api/voucher-types/available", headers=people.client)
    assert offers.json() == []
    answer = await buy(client, people.client, kind["id"])
    assert answer.json()["code"] == "organization_inactive"


async def test_a_clients_name_in_the_list_follows_identity(
    client: httpx.AsyncClient, people: People, transactions: Transactions
) -> None:
    await new_voucher(client, people)
    await deliver(transactions, event("identity.user.updated.v1", CLIENT, 2, name="New Name"))
    listed = await client.get(f"/api/organizations/{ORGANIZATION}/vouchers", headers=people.owner)
    assert listed.json()[0]["client_name"] == "New Name"


async def test_only_a_success_that_its_voucher_shows_is_left_out(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    settled = await new_voucher(client, people)
    shown = {"invoice_number": settled["invoice_number"]}
    pending = await _pending(client, people)
    applied = payment("succeeded", settled["id"], **shown)
    events = [
        applied,
        payment("succeeded", settled["id"], **shown, amount="1.00"),
        payment("succeeded", settled["id"], **shown, currency="EUR"),
        payment("succeeded", settled["id"], invoice_number="OUR-2026-000099"),
        payment("succeeded", settled["id"]),
        payment("succeeded", pending, invoice_number="OUR-2026-000002"),
        payment("succeeded", 999_999, **shown),
    ]
    async with database.admin() as admin, admin.transaction():
        # A look waits for no lock: the charges that it would otherwise get in the way of hold some.
        await admin.execute("SELECT 1 FROM vouchers FOR UPDATE")
        async with transactions.system() as session:
            assert await find_settled(session, events) == {applied.id}
            assert await find_settled(session, events[4:5]) == set()
    assert {name for fallback in FALLBACKS.values() for name in fallback.types} == {applied.type}
