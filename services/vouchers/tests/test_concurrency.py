"""Races, over real transactions and two instances of the service."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.vouchers.app import create_app
from services.vouchers.settings import Settings
from services.vouchers.tests.environment import Transports
from services.vouchers.tests.events import deliver_once, payment
from services.vouchers.tests.people import People, buy, new_type, new_voucher, redeem
from shared.testing import Database, client_of
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


@pytest.fixture
async def second(settings: Settings, transports: Transports) -> AsyncIterator[httpx.AsyncClient]:
    """Another instance of the service, with connections of its own."""
    async with client_of(create_app(settings, transports=transports)) as client:
        yield client


async def _insist(
    client: httpx.AsyncClient, people: People, voucher_id: int, **order: Any
) -> httpx.Response:
    """Redeem, again as long as the service is too busy: on a slow machine the pool runs dry."""
    while True:
        answer = await redeem(client, people.therapist, voucher_id, **order)
        if answer.status_code != 503:
            return answer
        await asyncio.sleep(float(answer.headers["retry-after"]) / 10)


async def test_of_a_hundred_that_race_for_the_last_session_one_wins(
    client: httpx.AsyncClient, second: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people, total_sessions=1)
    racing = [_insist((client, second)[number % 2], people, voucher["id"]) for number in range(100)]
    answers = await asyncio.gather(*racing)
    refusals = Counter(
        (a.status_code, a.json().get("code")) for a in answers if a.status_code != 201
    )
    assert [a.status_code for a in answers].count(201) == 1
    assert refusals == {(409, "voucher_exhausted"): 99}
    [row] = await database.rows("SELECT used_sessions, status FROM vouchers")
    assert (row["used_sessions"], row["status"]) == (1, "completed")
    assert len(await database.rows("SELECT 1 FROM redemptions")) == 1
    types = [event["type"] for event in await database.events()]
    assert types.count("vouchers.redemption.created.v1") == 1
    assert types.count("vouchers.voucher.completed.v1") == 1


async def test_of_many_that_race_with_one_code_one_wins(
    client: httpx.AsyncClient, second: httpx.AsyncClient, people: People
) -> None:
    voucher = await new_voucher(client, people)
    code = voucher["codes"][0]["code"]
    racing = [
        _insist((client, second)[number % 2], people, voucher["id"], code=code)
        for number in range(40)
    ]
    statuses = Counter(answer.status_code for answer in await asyncio.gather(*racing))
    assert statuses == {201: 1, 409: 39}


async def test_racing_for_twelve_sessions_spends_twelve(
    client: httpx.AsyncClient, second: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people, total_sessions=12)
    racing = [_insist((client, second)[number % 2], people, voucher["id"]) for number in range(50)]
    statuses = Counter(answer.status_code for answer in await asyncio.gather(*racing))
    assert statuses == {201: 12, 409: 38}
    codes = await database.rows("SELECT DISTINCT voucher_code_id FROM redemptions")
    assert len(codes) == 12, "each spent a code of its own"


async def test_one_redemption_is_taken_back_once(
    client: httpx.AsyncClient, second: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    spent = (await redeem(client, people.therapist, voucher["id"])).json()
    path = f"/api/vouchers/{voucher['id']}/redemptions/{spent['id']}/reverse"
    racing = [(client, second)[number % 2].post(path, headers=people.owner) for number in range(20)]
    statuses = Counter(answer.status_code for answer in await asyncio.gather(*racing))
    assert statuses == {201: 1, 409: 19}
    [row] = await database.rows("SELECT used_sessions FROM vouchers")
    assert row["used_sessions"] == 0


async def test_a_payment_reported_by_many_at_once_activates_once(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    kind = await new_type(client, people.owner)
    voucher = (await buy(client, people.client, kind["id"], payment_token="pm_3ds")).json()
    deliveries = [
        deliver_once(transactions, payment("succeeded", voucher["id"])) for _ in range(10)
    ]
    path = f"/api/vouchers/{voucher['id']}/cancel"
    cancelling = asyncio.ensure_future(client.post(path, headers=people.client))
    await asyncio.gather(*deliveries, cancelling)
    cancelled = cancelling.result()
    [row] = await database.rows("SELECT status, payment_status FROM vouchers")
    codes = len(await database.rows("SELECT 1 FROM voucher_codes"))
    assert row["payment_status"] == "paid"
    if cancelled.status_code == 200:
        assert (row["status"], codes) == ("cancelled", 0)
    else:
        assert (cancelled.status_code, row["status"], codes) == (403, "active", 12)
