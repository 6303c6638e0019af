"""Invoices: no gap, nothing altered, and pages that can be sent."""

import asyncio
import csv
import io
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from pypdf import PdfReader
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import queries
from services.payments.endpoints.views import totals_csv
from services.payments.schemas import DayTotal
from services.payments.service import payments
from services.payments.tests.signals import ADMIN, CLIENT, ORGANIZATION, OTHER_ORGANIZATION, order
from services.payments.tests.test_charges import charge
from shared.db import now
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
BASE = f"/api/organizations/{ORGANIZATION}"


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "organization_owner", ORGANIZATION)


class Crash(Exception):
    """What ends a transaction in the middle."""


async def _mark_paid(session: AsyncSession, payment_id: int) -> None:
    payment = await queries.get_payment(session, payment_id)
    await payments.mark_paid(session, ADMIN, payment.organization_id, payment_id, None)


async def _pay_and_crash(transactions: Transactions, payment_id: int) -> None:
    with pytest.raises(Crash):
        async with transactions.system() as session:
            await _mark_paid(session, payment_id)
            await session.flush()
            raise Crash


async def test_fifty_at_once_with_crashes_leave_no_gap(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    transactions: Transactions,
    database: Database,
) -> None:
    cash = {"payment_method": "cash", "payment_token": None}
    waiting = [
        await charge(
            client,
            vouchers,
            order(**cash, organization_id=ORGANIZATION if number % 5 else OTHER_ORGANIZATION),
        )
        for number in range(40)
    ]
    ids = [payment["transaction_id"] for payment in waiting]

    async def pay(payment_id: int) -> None:
        async with transactions.system() as session:
            await _mark_paid(session, payment_id)

    await asyncio.gather(
        *(_pay_and_crash(transactions, payment_id) for payment_id in ids[::4]),
        *(charge(client, vouchers, order()) for _ in range(10)),
        *(pay(payment_id) for payment_id in ids if payment_id not in ids[::4]),
    )
    await asyncio.gather(*(pay(payment_id) for payment_id in ids[::4]))
    numbers = defaultdict(list)
    for row in await database.rows("SELECT organization_id, sequence FROM invoices"):
        numbers[row["organization_id"]].append(row["sequence"])
    assert sorted(numbers[ORGANIZATION]) == list(range(1, 43))
    assert sorted(numbers[OTHER_ORGANIZATION]) == list(range(1, 9))
    [series] = (await client.get(f"{BASE}/invoices/gaps", headers=owner)).json()
    assert (series["kind"], series["issued"], series["last_number"]) == ("invoice", 42, 42)
    assert series["missing"] == []


async def test_a_missing_number_is_named(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, database: Database
) -> None:
    for _ in range(3):
        await charge(client, vouchers, order())
    async with database.admin() as admin:
        await admin.execute("DELETE FROM invoices WHERE sequence = 2")
    [series] = (await client.get(f"{BASE}/invoices/gaps", headers=owner)).json()
    assert (series["missing"], series["issued"], series["last_number"]) == ([2], 2, 3)


async def test_the_year_is_the_organizations_own(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    tokens: Tokens,
    database: Database,
) -> None:
    zones = {ORGANIZATION: "Pacific/Kiritimati", OTHER_ORGANIZATION: "Etc/GMT+12"}
    owners = {
        ORGANIZATION: owner,
        OTHER_ORGANIZATION: tokens.bearer(2, "organization_owner", OTHER_ORGANIZATION),
    }
    for organization_id, zone in zones.items():
        owner = owners[organization_id]
        body = order(
            organization_id=organization_id, seller={**order()["seller"], "timezone": zone}
        )
        paid = await charge(client, vouchers, body)
        path = f"/api/payments/{paid['transaction_id']}/invoice"
        invoice = (await client.get(path, headers=owner)).json()
        [row] = await database.rows(
            "SELECT (issued_at AT TIME ZONE $1)::date AS day FROM invoices WHERE id = $2",
            zone,
            invoice["id"],
        )
        assert invoice["issue_date"] == row["day"].isoformat()
        assert f"-{row['day'].year}-" in invoice["number"]


async def test_an_invoice_does_not_change_after_it_was_issued(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens
) -> None:
    body = order()
    paid = await charge(client, vouchers, body)
    path = f"/api/payments/{paid['transaction_id']}/invoice"
    answer = await client.get(path, headers=tokens.bearer(CLIENT, "client", ORGANIZATION))
    invoice = answer.json()
    assert invoice["number"] == paid["invoice_number"]
    assert invoice["seller"] == body["seller"]
    assert invoice["buyer"] == body["buyer"]
    assert b'"total":399.99' in answer.content
    assert invoice["lines"] == [
        {
            "description": body["description"],
            "quantity": 1,
            "unit_price": 399.99,
            "amount": 399.99,
        }
    ]


async def test_the_page_names_everything(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers
) -> None:
    paid = await charge(client, vouchers, order())
    own = f"/api/payments/{paid['transaction_id']}"
    refund = await client.post(
        f"{BASE}/payments/{paid['transaction_id']}/refunds", json={"amount": 100}, headers=owner
    )
    assert refund.status_code == 201
    [note] = (await client.get(f"{own}/credit-notes", headers=owner)).json()
    for path, expected in (
        (f"{own}/invoice", ("Invoice", paid["invoice_number"], "399.99")),
        (f"{own}/credit-notes/{note['number']}", ("Credit note", note["number"], "100.00")),
        (f"{BASE}/invoices/{note['id']}", (paid["invoice_number"], "Given back")),
    ):
        answer = await client.get(path, headers={**owner, "Accept": "application/pdf"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/pdf"
        page = PdfReader(io.BytesIO(answer.content)).pages[0].extract_text()
        for part in (*expected, "Praxis Żółw", "PL1234567890", "Clara Client"):
            assert part in page


@pytest.mark.parametrize(
    ("accept", "status", "form"),
    [
        (["*/*"], 200, "application/json"),
        (["application/json;q=0, application/pdf"], 200, "application/pdf"),
        (["application/pdf;q=0.1, application/json"], 200, "application/json"),
        (["text/html", "application/pdf"], 200, "application/pdf"),
        (["text/html"], 406, "application/problem+json"),
        ([""], 200, "application/json"),
    ],
)
async def test_what_a_caller_accepts(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    accept: list[str],
    status: int,
    form: str,
) -> None:
    paid = await charge(client, vouchers, order())
    path = f"/api/payments/{paid['transaction_id']}/invoice"
    lines = [*owner.items(), *(("Accept", line) for line in accept)]
    answer = await client.get(path, headers=lines)
    assert (answer.status_code, answer.headers["content-type"]) == (status, form)
    assert "Accept" in answer.headers["vary"]


async def test_without_a_success_there_is_no_invoice(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers
) -> None:
    waiting = await charge(client, vouchers, order(payment_token=None))
    answer = await client.get(f"/api/payments/{waiting['transaction_id']}/invoice", headers=owner)
    assert (answer.status_code, answer.json()["code"]) == (404, "invoice_not_found")


async def test_who_sees_invoices(
    client: httpx.AsyncClient, vouchers: Headers, tokens: Tokens
) -> None:
    paid = await charge(client, vouchers, order())
    own = f"/api/payments/{paid['transaction_id']}"
    lists = ("/invoices", "/invoices/gaps", "/payments/totals")
    for headers, organization, payment in (
        ({}, 401, 401),
        (tokens.bearer(1, "admin"), 200, 200),
        (tokens.bearer(2, "staff", ORGANIZATION, ("view_payments",)), 200, 200),
        (tokens.bearer(3, "therapist", ORGANIZATION), 403, 404),
        (tokens.bearer(CLIENT, "client", ORGANIZATION), 403, 200),
        (tokens.bearer(4, "organization_owner", OTHER_ORGANIZATION), 404, 404),
    ):
        for path in lists:
            answer = await client.get(BASE + path, headers=headers)
            assert answer.status_code == organization
        for path in ("/invoice", "/credit-notes"):
            assert (await client.get(own + path, headers=headers)).status_code == payment


async def test_totals_per_day_currency_and_method(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers
) -> None:
    first = await charge(client, vouchers, order(amount=100))
    await charge(client, vouchers, order(amount=50.5))
    await charge(client, vouchers, order(amount=7, currency="EUR"))
    await charge(client, vouchers, order(organization_id=OTHER_ORGANIZATION))
    await client.post(
        f"{BASE}/payments/{first['transaction_id']}/refunds", json={"amount": 30}, headers=owner
    )
    rows = (await client.get(f"{BASE}/payments/totals", headers=owner)).json()
    shown = [{key: row[key] for key in row if key != "day"} for row in rows]
    card: dict[str, Any] = {"payment_method": "credit_card"}
    assert shown == [
        {**card, "currency": "EUR"} | _sums(1, 7.0, 0, 0.0, 7.0),
        {**card, "currency": "USD"} | _sums(2, 150.5, 1, 30.0, 120.5),
    ]
    for request in (
        {"params": {"format": "csv"}},
        {"headers": {"Accept": "text/csv"}},
        {"headers": {"Accept": "application/json;q=0.5, text/csv"}},
    ):
        headers = {**owner, **request.get("headers", {})}
        answer = await client.get(
            f"{BASE}/payments/totals", headers=headers, params=request.get("params", {})
        )
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["vary"] == "Accept"
        [_, dollars] = list(csv.DictReader(io.StringIO(answer.text)))
        assert (dollars["paid"], dollars["refunded"], dollars["net"]) == (
            "150.50",
            "30.00",
            "120.50",
        )


async def test_totals_begin_with_a_byte_order_mark_on_request(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers
) -> None:
    await charge(client, vouchers, order(amount=100))
    path = f"{BASE}/payments/totals"
    by_accept = {**owner, "Accept": "text/csv"}
    plain = await client.get(path, headers=by_accept)
    for query, headers in (({"format": "csv", "bom": "true"}, owner), ({"bom": "true"}, by_accept)):
        marked = await client.get(path, params=query, headers=headers)
        assert marked.headers["content-type"] == "text/csv; charset=utf-8"
        assert marked.content == b"\xef\xbb\xbf" + plain.content
    refused = await client.get(path, params={"bom": "true"}, headers=owner)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "bom"


async def test_more_given_back_than_paid_is_a_number_below_zero() -> None:
    day = DayTotal(
        day=date(2026, 3, 1),
        currency="USD",
        payment_method="cash",
        payments=0,
        paid=Decimal(0),
        refunds=1,
        refunded=Decimal("30.5"),
        net=Decimal("-30.5"),
    )
    [_, line] = totals_csv([day], with_bom=False).decode().splitlines()
    assert line == "2026-03-01,USD,cash,0,0.00,1,30.50,-30.50"


def _sums(
    payments: int, paid: float, refunds: int, refunded: float, net: float
) -> dict[str, object]:
    names = ("payments", "paid", "refunds", "refunded", "net")
    return dict(zip(names, (payments, paid, refunds, refunded, net), strict=True))


@pytest.mark.parametrize(
    ("params", "seen"),
    [
        ({}, [0, 29]),
        ({"to": 0}, [0, 29]),
        ({"to": 1}, [29]),
        ({"to": 2}, [29, 32]),
        ({"from": 32}, [0, 29, 32]),
    ],
)
async def test_totals_are_of_thirty_days_unless_others_are_named(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    database: Database,
    params: dict[str, int],
    seen: list[int],
) -> None:
    """Days are given as the number of days ago."""
    today = now().date()
    for ago in (0, 29, 32):
        paid = await charge(client, vouchers, order(amount=0, payment_token=None))
        async with database.admin() as admin:
            await admin.execute(
                "UPDATE invoices SET issue_date = $1 WHERE transaction_id = $2",
                today - timedelta(days=ago),
                paid["transaction_id"],
            )
    days = {name: str(today - timedelta(days=ago)) for name, ago in params.items()}
    rows = (await client.get(f"{BASE}/payments/totals", params=days, headers=owner)).json()
    assert [row["day"] for row in rows] == [
        str(today - timedelta(days=ago)) for ago in reversed(seen)
    ]


async def test_totals_of_a_span_that_is_none(client: httpx.AsyncClient, owner: Headers) -> None:
    day = now().date()
    for first, last in (
        (day, day - timedelta(days=1)),
        (day - timedelta(days=400), day),
        ("x", "y"),
    ):
        answer = await client.get(
            f"{BASE}/payments/totals",
            params={"from": str(first), "to": str(last)},
            headers=owner,
        )
        assert answer.status_code == 422


async def test_lists_are_paged_and_filtered(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, tokens: Tokens
) -> None:
    for number in range(5):
        method = {"payment_method": "cash", "payment_token": None} if number == 4 else {}
        await charge(client, vouchers, order(**method, client_id=CLIENT + number % 2))
    for path, expected in (
        (f"{BASE}/payments?limit=2", 5),
        (f"{BASE}/payments?limit=2&status=succeeded", 4),
        (f"{BASE}/payments?limit=2&method=cash", 1),
        (f"{BASE}/payments?limit=2&client_id={CLIENT + 1}", 2),
        (f"{BASE}/payments?from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00Z", 0),
        (f"{BASE}/invoices?limit=3", 4),
        (f"{BASE}/invoices?kind=credit_note", 0),
    ):
        assert await _count(client, path, owner) == expected
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    assert await _count(client, "/api/payments/my?limit=1", payer) == 3


async def _count(client: httpx.AsyncClient, path: str | None, headers: Headers) -> int:
    seen = 0
    while path:
        answer = await client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        seen += len(answer.json())
        path = answer.links.get("next", {}).get("url")
    return seen
