"""A process that is killed at any point of a first charge."""

from pathlib import Path

import httpx
import pytest

from services.payments.gateways import Gateways
from services.payments.gateways.stripe import StripeSettings
from services.payments.service import payments
from services.payments.service.reconciliation import Reconciler
from services.payments.settings import Settings
from services.payments.tests.killed import run_until_killed, work_for
from services.payments.tests.signals import CardIssuer
from services.payments.tests.test_charges import charge
from services.payments.tests.test_first_charges import first, terms_of
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


POINTS = [
    "charge.before_prepare",
    "charge.prepared",
    "charge.opened",
    "charge.written_down",
    "charge.confirmed",
    "charge.entered",
    "transaction.before_commit",
    "transaction.committed",
]


@pytest.mark.parametrize("point", POINTS)
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
    work = work_for(settings, stripe_settings, gateways.accounts, charge=body)
    await run_until_killed("killed_charge", work, point, tmp_path / "points")
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
