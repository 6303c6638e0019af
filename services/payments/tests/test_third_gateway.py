"""A third payment gateway is one file and one setting: this one is written here and used."""

import json
from pathlib import Path

import httpx
import pytest

from services.payments import gateways as package
from services.payments.app import create_app
from services.payments.service import webhooks
from services.payments.settings import Settings
from services.payments.tests.signals import CLIENT, ORGANIZATION, order
from services.payments.tests.test_charges import charge
from shared.testing import Database, Tokens, client_of
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

FILE = '''
"""A bank that believes everybody."""

import json
from dataclasses import replace
from datetime import UTC, datetime

from services.payments.gateways.protocol import (
    WebhookNotice, PaymentOutcome, RefundOutcome, RefundReport, PaymentReport, WebhookRefused,
)


class TrustingBank:
    name = "trusting"
    live = False

    def __init__(self):
        self.known = {}
        self.refunds = {}

    async def prepare(self, order, token):
        number = f"bank-{order.reference}"
        self.known[number] = PaymentReport(
            number, PaymentOutcome.PREPARED, order.amount, order.currency
        )
        return self.known[number]

    async def confirm(self, account, gateway_id):
        self.known[gateway_id] = replace(self.known[gateway_id], outcome=PaymentOutcome.PROCESSING)
        return self.known[gateway_id]

    async def look_up(self, account, gateway_id):
        return self.known[gateway_id]

    async def cancel(self, account, gateway_id):
        return self.known[gateway_id]

    async def refund(self, gateway_id, order):
        return RefundReport(
            f"back-{order.refund_id}", RefundOutcome.SUCCEEDED, order.amount, order.currency,
            order.refund_id, gateway_id, order.account.id,
        )

    async def refunds_of(self, account, gateway_id):
        return []

    async def refunds_since(self, account, instant):
        for refund in ():
            yield refund

    async def events_since(self, account, instant):
        for event in ():
            yield event

    def verify(self, body, headers, moment, *, connected=False):
        if headers.get("x-bank") != "yes":
            raise WebhookRefused("not the bank")
        return WebhookNotice(json.loads(body)["id"], "paid", datetime.now(UTC))

    def read(self, body):
        known = self.known[json.loads(body)["payment"]]
        return replace(known, outcome=PaymentOutcome.SUCCEEDED, captured=known.amount)

    async def aclose(self):
        pass


def open_gateway():
    return TrustingBank()
'''


async def test_one_file_and_one_setting(
    settings: Settings,
    transactions: Transactions,
    database: Database,
    vouchers: dict[str, str],
    tokens: Tokens,
    tmp_path: Path,
) -> None:
    (tmp_path / "trusting.py").write_text(FILE)
    package.__path__.append(str(tmp_path))
    moved = dict.fromkeys(("credit_card", "bank_transfer"), "trusting")
    changed = Settings.model_validate(settings.model_dump() | {"gateways": moved})
    opened = changed.open_gateways()
    package.__path__.remove(str(tmp_path))
    async with client_of(create_app(changed, gateways=opened)) as client:
        waiting = await charge(client, vouchers, order(payment_method="bank_transfer"))
        assert waiting["status"] == "processing"
        paid = json.dumps({"id": "1", "payment": f"bank-{waiting['transaction_id']}"}).encode()
        path = "/api/payments/webhooks/trusting"
        assert (await client.post(path, content=paid)).status_code == 400
        stored = await client.post(path, content=paid, headers={"x-bank": "yes"})
        assert stored.json() == {"status": "stored"}
        await webhooks.process_due(transactions, opened)
        owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
        shown = await client.get(f"/api/payments/{waiting['transaction_id']}", headers=owner)
        assert (shown.json()["status"], shown.json()["payment_gateway"]) == (
            "succeeded",
            "trusting",
        )
        await _refund_works(client, waiting["transaction_id"], owner)
    [row] = await database.rows("SELECT client_id, status FROM payment_transactions")
    assert (row["client_id"], row["status"]) == (CLIENT, "refunded")


async def test_first_attempts_have_references_of_their_own(
    settings: Settings, database: Database, vouchers: dict[str, str], tmp_path: Path
) -> None:
    """They are prepared before their payments have ids."""
    (tmp_path / "trusting.py").write_text(FILE)
    package.__path__.append(str(tmp_path))
    moved = {"credit_card": "trusting", "bank_transfer": "trusting"}
    opened = Settings.model_validate(settings.model_dump() | {"gateways": moved}).open_gateways()
    package.__path__.remove(str(tmp_path))
    bodies = [order(first=True) for _ in range(2)]
    async with client_of(create_app(settings, gateways=opened)) as client:
        for body in bodies:
            assert (await charge(client, vouchers, body))["status"] == "processing"
    rows = await database.rows("SELECT gateway_transaction_id AS id FROM payment_transactions")
    assert {row["id"] for row in rows} == {f"bank-voucher-{body['voucher_id']}" for body in bodies}


async def _refund_works(client: httpx.AsyncClient, payment_id: int, owner: dict[str, str]) -> None:
    path = f"/api/organizations/{ORGANIZATION}/payments/{payment_id}/refunds"
    back = await client.post(path, headers=owner)
    assert (back.status_code, back.json()["status"]) == (201, "succeeded")
