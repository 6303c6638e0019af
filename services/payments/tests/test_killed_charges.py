"""A process that is killed at any point of a first charge."""

import asyncio
import json
import os
import sys
from pathlib import Path

import httpx
import pytest

from services.payments.gateways import Gateways
from services.payments.gateways.stripe import StripeSettings
from services.payments.service import payments
from services.payments.service.reconciliation import Reconciler
from services.payments.settings import Settings
from services.payments.tests.signals import CardIssuer
from services.payments.tests.test_charges import charge
from services.payments.tests.test_first_charges import first, terms_of
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


@pytest.mark.parametrize(
    "point",
    [
        "charge.before_prepare",
        "charge.prepared",
        "charge.opened",
        "charge.written_down",
        "charge.confirmed",
        "charge.entered",
        "transaction.before_commit",
        "transaction.committed",
    ],
)
async def test_a_process_that_is_killed_charges_once_at_most(
    client: httpx.AsyncClient,
    vouchers: Headers,
    gateways: Gateways,
    transactions: Transactions,
    reconciler: Reconciler,
    settings: Settings,
    stripe_settings: StripeSettings,
    issuer: CardIssuer,
    database: Database,
    tmp_path: Path,
    point: str,
) -> None:
    body = first()
    given = {
        "database_url": settings.database_url.get_secret_value(),
        "api_base": stripe_settings.api_base,
        "api_key": stripe_settings.api_key.get_secret_value(),
        "charge": body,
    }
    log = tmp_path / "points"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.payments.tests.killed_charge"),
        stdin=asyncio.subprocess.PIPE,
        env=os.environ | {"FAILPOINT": f"{point}:1", "FAILPOINTS_LOG": str(log)},
    )
    await process.communicate(json.dumps(given).encode())
    assert process.returncode == -9
    assert f"killed {point}" in log.read_text()
    intents = await issuer.intents_of(body["voucher_id"])
    stored_ids = {
        row["gateway_transaction_id"]
        for row in await database.rows("SELECT gateway_transaction_id FROM payment_transactions")
    }
    for intent in intents:
        assert intent["status"] == "requires_confirmation" or intent["id"] in stored_ids
    async with transactions.system() as session:
        await payments.open_missing(session, gateways, terms_of(body))
    await reconciler.settle_unfinished()
    settled = await charge(client, vouchers, body | {"first": False})
    assert settled["status"] == "succeeded"
    assert await issuer.captures(body["voucher_id"]) == 1
    assert len(await database.rows("SELECT * FROM invoices")) == 1
