"""The program in one process sells to the buyers, with a real PostgreSQL."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from deploy.local.errors import StartError
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.one_process import CODES
from deploy.proof.bench.one_process_shop import (
    ROLE,
    DatabaseServer,
    OneProcessShop,
    running_program,
)
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from shared.provisioning import in_database

# One folder, one database and one port file serve all tests of the bench and of the stack.
pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

_SALES = """
SELECT count(DISTINCT v.id) AS vouchers, count(DISTINCT c.code) AS codes,
    count(DISTINCT p.gateway_id) AS payments, count(DISTINCT i.number) AS invoices,
    max(k.last) AS last_number
FROM vouchers v JOIN codes c ON c.voucher_id = v.id JOIN payments p ON p.voucher_id = v.id
JOIN invoices i ON i.payment_id = p.id CROSS JOIN counters k
"""


@pytest.fixture
def server() -> DatabaseServer:
    """The PostgreSQL of the tests, of which only the address is known."""
    return DatabaseServer(os.environ["CARNET_TEST_DATABASE_URL"], os.getpid(), Path(os.devnull))


@pytest.fixture
async def shop(
    environment: BenchEnvironment, server: DatabaseServer
) -> AsyncIterator[OneProcessShop]:
    async with running_program(environment, server) as shop:
        yield shop


async def test_each_purchase_is_a_voucher_with_codes_a_payment_and_an_invoice(
    shop: OneProcessShop,
) -> None:
    before = shop.cpu()
    result = await shop.load(1.0, buyers=4)
    result.require_success()
    number = len(result.latencies)
    connection = await asyncpg.connect(in_database(shop.database_url, ROLE))
    sales = await connection.fetchrow(_SALES)
    await connection.close()
    assert tuple(sales) == (number, number * CODES, number, number, number)
    used = {name: seconds - before[name] for name, seconds in shop.cpu().items()}
    assert used["one-process"] > 0
    assert used["card-gateway"] > 0
    assert result.cpu_seconds > 0


async def test_purchases_begin_at_a_rate(shop: OneProcessShop) -> None:
    result = await shop.load_at_rate(10, 0.5)
    assert (len(result.latencies), result.refused) == (5, 0)


async def test_a_refused_purchase_counts_as_refused(
    environment: BenchEnvironment, server: DatabaseServer
) -> None:
    async with running_program(environment, server) as shop:
        stranger = OneProcessShop(**{**vars(shop), "secret": "of somebody else entirely"})
        result = await stranger.load_at_rate(10, 0.3)
    assert (result.latencies, result.refused) == ([], 3)
    with pytest.raises(StartError):
        result.require_success()
