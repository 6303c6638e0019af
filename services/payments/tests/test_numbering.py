"""Numbers and dates of documents run the same way: with the clock, never against it."""

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payments.service import invoices, payments
from services.payments.service.reconciliation import Reconciler
from services.payments.tests.signals import ADMIN, ORGANIZATION, order
from services.payments.tests.test_charges import charge
from shared.testing import Database, Tokens, until
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
BASE = f"/api/organizations/{ORGANIZATION}"

# Hypothesis takes them without a zone and adds its own.
_FIRST = datetime(2025, 12, 28)  # noqa: DTZ001
_LAST = datetime(2026, 1, 4)  # noqa: DTZ001


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "organization_owner", ORGANIZATION)


async def _in_order(database: Database) -> None:
    """Check that no document of any series is dated before one with a lower number."""
    rows = await database.rows(
        "SELECT organization_id, kind, number, issued_at, issue_date FROM invoices"
        " ORDER BY organization_id, kind, year, sequence"
    )
    for before, after in pairwise(rows):
        if (before["organization_id"], before["kind"]) == (after["organization_id"], after["kind"]):
            assert before["issued_at"] <= after["issued_at"], (before, after)
            assert before["issue_date"] <= after["issue_date"], (before, after)


async def test_forty_at_once_are_numbered_in_the_order_of_time(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    transactions: Transactions,
    reconciler: Reconciler,
    database: Database,
) -> None:
    cash = {"payment_method": "cash", "payment_token": None}
    ids = [(await charge(client, vouchers, order(**cash)))["transaction_id"] for _ in range(40)]

    async def pay(payment_id: int) -> None:
        async with transactions.system() as session:
            await payments.mark_paid(session, ADMIN, ORGANIZATION, payment_id, None)

    async def give_back(payment_id: int) -> None:
        path = f"{BASE}/payments/{payment_id}/refunds"
        headers = {**owner, "Idempotency-Key": f"refund-{payment_id}"}

        async def answered() -> bool:
            answer = await client.post(path, headers=headers)
            if answer.status_code == 503 or answer.json().get("code") == "request_in_progress":
                return False  # a busy machine has no connection in time: clients repeat it
            assert answer.status_code == 201, answer.text
            return True

        await until(answered)

    async def given_back() -> bool:
        """Carry on, as the timer does, with refunds whose request failed in the middle."""
        await reconciler.settle_refunds()
        return not await database.rows("SELECT 1 FROM refunds WHERE status = 'pending'")

    await asyncio.gather(*map(pay, ids))
    await asyncio.gather(*map(give_back, ids))
    await until(given_back)
    series = (await client.get(f"{BASE}/invoices/gaps", headers=owner)).json()
    assert [(each["issued"], each["missing"]) for each in series] == [(40, []), (40, [])]
    await _in_order(database)


async def test_a_zone_that_moved_west_takes_no_date_back(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    transactions: Transactions,
    database: Database,
) -> None:
    """Of two zones 26 hours apart, the western one is always in an earlier day."""
    first = await charge(client, vouchers, order(seller=_seller_in("Pacific/Kiritimati")))
    async with transactions.system() as session:
        west = {"timezone": "Etc/GMT+12"}
        await invoices.record_seller_changes(session, ORGANIZATION, 2, west)
    second = await charge(client, vouchers, order())
    for payment in (first, second):
        payment_id = payment["transaction_id"]
        answer = await client.post(f"{BASE}/payments/{payment_id}/refunds", headers=owner)
        assert answer.status_code == 201, answer.text
    dates = await database.rows("SELECT issue_date, seller FROM invoices ORDER BY id")
    assert len({row["issue_date"] for row in dates}) == 1, "the credit notes' as well"
    assert "Etc/GMT+12" in str(dates[1]["seller"])
    await _in_order(database)


def _seller_in(zone: str) -> dict[str, Any]:
    return {**order()["seller"], "timezone": zone}


@given(
    st.lists(
        st.tuples(
            st.datetimes(_FIRST, _LAST, timezones=st.just(UTC)),
            st.sampled_from(["Pacific/Kiritimati", "Europe/Warsaw", "UTC", "Etc/GMT+12"]),
        ),
        max_size=20,
    )
)
def test_no_order_of_clocks_and_zones_takes_a_date_back(
    steps: list[tuple[datetime, str]],
) -> None:
    """Years and numbers follow: a series of an earlier year is never continued."""
    last: invoices.DocumentDate | None = None
    for moment, zone in steps:
        dated = invoices.date_document(moment, ZoneInfo(zone), last)
        assert dated.issued_at >= moment
        assert dated.issue_date >= moment.astimezone(ZoneInfo(zone)).date()
        if last is not None:
            assert dated.issued_at >= last.issued_at
            assert dated.issue_date >= last.issue_date
            assert dated.year >= last.year
        last = dated
