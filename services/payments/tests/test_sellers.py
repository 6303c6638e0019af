"""Documents name the seller as it is when they are issued, not as it was at the purchase."""

from typing import Any

import httpx
import pytest
from uuid_utils import uuid7

from services.payments.gateways import Gateways
from services.payments.handlers import ORGANIZATIONS, queues_of
from services.payments.tests.signals import ORGANIZATION, OTHER_ORGANIZATION, order
from services.payments.tests.test_charges import charge
from shared.db import now
from shared.events import Event, EventActor, EventData
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
BASE = f"/api/organizations/{ORGANIZATION}"
TRANSFER = {"payment_method": "bank_transfer", "payment_token": None}


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "organization_owner", ORGANIZATION)


def organization_changed(version: int, kind: str = "updated", **new_values: Any) -> Event:
    return Event(
        id=str(uuid7()),
        source="carnet/organizations",
        type=f"organizations.organization.{kind}.v1",
        time=now(),
        subject=f"organization/{ORGANIZATION}",
        data=EventData(
            action="UPDATE",
            entity_type="organization",
            entity_id=ORGANIZATION,
            entity_version=version,
            organization_id=ORGANIZATION,
            actor=EventActor(user_id=1, role="organization_owner"),
            correlation_id="correlation",
            old_values={},
            new_values=new_values,
        ),
    )


@pytest.fixture
def twice(transactions: Transactions) -> Any:
    async def handle(event: Event) -> None:
        for _ in range(2):
            async with transactions.system(causation=event) as session:
                await queues_of(Gateways({}))[ORGANIZATIONS][event.type](session, event)

    return handle


async def mark_paid(
    client: httpx.AsyncClient, owner: Headers, payment: dict[str, Any]
) -> dict[str, Any]:
    """Mark a transfer as paid and return its invoice."""
    payment_id = payment["transaction_id"]
    paid = await client.post(f"{BASE}/payments/{payment_id}/mark-paid", headers=owner)
    assert paid.status_code == 200, paid.text
    answer = await client.get(f"/api/payments/{payment_id}/invoice", headers=owner)
    invoice: dict[str, Any] = answer.json()
    return invoice


async def test_an_invoice_names_the_seller_as_it_is_when_the_money_comes(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    twice: Any,
    database: Database,
) -> None:
    body = order(**TRANSFER)
    body["seller"] |= {"tax_id": None, "timezone": "Etc/GMT+12"}
    waiting = await charge(client, vouchers, body)
    await twice(
        organization_changed(2, tax_id="PL1", timezone="Pacific/Kiritimati", currency="EUR")
    )
    await twice(organization_changed(3, kind="deactivated", tax_id="PL2", is_active=False))
    invoice = await mark_paid(client, owner, waiting)
    new = {"tax_id": "PL2", "timezone": "Pacific/Kiritimati"}
    assert invoice["seller"] == body["seller"] | new
    [row] = await database.rows(
        "SELECT (issued_at AT TIME ZONE 'Pacific/Kiritimati')::date AS day FROM invoices"
    )
    assert invoice["issue_date"] == row["day"].isoformat()
    assert invoice["number"] == f"PRAXIS-{row['day'].year}-000001"


async def test_a_credit_note_names_the_seller_as_it_is_and_the_invoice_stays(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, twice: Any
) -> None:
    paid = await charge(client, vouchers, order())
    own = f"/api/payments/{paid['transaction_id']}"
    await twice(organization_changed(2, name="Praxis am See", address=None))
    refunded = await client.post(f"{BASE}/payments/{paid['transaction_id']}/refunds", headers=owner)
    assert refunded.status_code == 201, refunded.text
    [note] = (await client.get(f"{own}/credit-notes", headers=owner)).json()
    assert (note["seller"]["name"], note["seller"]["address"]) == ("Praxis am See", None)
    invoice = (await client.get(f"{own}/invoice", headers=owner)).json()
    assert invoice["seller"]["name"] == "Praxis Żółw"


async def test_a_change_that_comes_late_takes_nothing_newer_back(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, twice: Any
) -> None:
    waiting = await charge(client, vouchers, order(**TRANSFER))
    await twice(organization_changed(3, tax_id="new"))
    await twice(organization_changed(2, tax_id="old", phone="123"))
    seller = (await mark_paid(client, owner, waiting))["seller"]
    assert (seller["tax_id"], seller["phone"]) == ("new", "123")


async def test_another_organizations_changes_are_not_its_own(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens, twice: Any
) -> None:
    await twice(organization_changed(2, tax_id="PL2"))
    paid = await charge(client, vouchers, order(organization_id=OTHER_ORGANIZATION))
    other = tokens.bearer(2, "organization_owner", OTHER_ORGANIZATION)
    answer = await client.get(f"/api/payments/{paid['transaction_id']}/invoice", headers=other)
    assert answer.json()["seller"]["tax_id"] == "PL1234567890"
