"""An organization whose cards are charged on its own account, for tests of payouts."""

import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from services.payments.gateways import Gateways
from services.payments.service import webhooks
from services.payments.service.payout_reader import PayoutReader
from services.payments.tests.connections import connect
from services.payments.tests.signals import CardIssuer, deliver_connect, order
from services.payments.tests.test_charges import charge
from shared.testing import Database, Tokens
from shared.transactions import Transactions

_organization_ids = itertools.count(1000)
Headers = dict[str, str]
Event = dict[str, Any]


def this_month() -> str:
    """Return the present month of the organizations of tests."""
    return f"{datetime.now(ZoneInfo('Europe/Warsaw')):%Y-%m}"


@dataclass
class PayoutBooks:
    """An organization with its account, and the webhooks of the account."""

    client: httpx.AsyncClient
    vouchers: Headers
    tokens: Tokens
    issuer: CardIssuer
    database: Database
    transactions: Transactions
    gateways: Gateways
    organization_id: int = field(default_factory=lambda: next(_organization_ids))
    account: str = ""
    delivered: set[str] = field(default_factory=set)

    async def open(self) -> "PayoutBooks":
        """Connect an account; return these books."""
        console = self.issuer
        self.account = await console.account()
        self.issuer = console.of(self.account)
        await connect(self.database, self.account, self.organization_id)
        return self

    @property
    def owner(self) -> Headers:
        """The headers of the organization's owner."""
        return self.tokens.bearer(1, "organization_owner", self.organization_id)

    @property
    def path(self) -> str:
        """The address of the organization."""
        return f"/api/organizations/{self.organization_id}"

    async def set_fee(self, **rate: Any) -> None:
        """Set the operator's fee."""
        admin = self.tokens.bearer(1, "admin")
        response = await self.client.put(f"{self.path}/platform-fee", json=rate, headers=admin)
        assert response.status_code == 200, response.text

    async def pay(self, amount: str = "100.00", **changes: Any) -> tuple[int, str]:
        """Pay by card; return our id of the payment and the gateway's."""
        body = order(organization_id=self.organization_id, amount=amount, **changes)
        paid = await charge(self.client, self.vouchers, body)
        assert paid["status"] == "succeeded", paid
        [row] = await self.database.rows(
            "SELECT gateway_transaction_id AS id FROM payment_transactions WHERE id = $1",
            paid["transaction_id"],
        )
        return paid["transaction_id"], row["id"]

    async def refund(self, payment_id: int, **body: Any) -> httpx.Response:
        """Refund a payment."""
        path = f"{self.path}/payments/{payment_id}/refunds"
        return await self.client.post(path, json=body, headers=self.owner)

    async def deliver(
        self, select: Callable[[Event], bool] = lambda _: True, *, shuffled: Any = None
    ) -> None:
        """Deliver the account's events that were not delivered yet, and apply them."""
        events = [
            event
            for event in await self.issuer.events()
            if event["id"] not in self.delivered and select(event)
        ]
        if shuffled is not None:
            shuffled.shuffle(events)
        for event in events:
            self.delivered.add(event["id"])
            body = json.dumps({**event, "account": self.account}).encode()
            assert (await deliver_connect(self.client, body)).status_code == 200
        await self.process()

    async def process(self) -> None:
        """Apply the webhooks that are stored."""
        await webhooks.process_due(self.transactions, self.gateways)

    async def read(self) -> None:
        """Read the account's payouts and balance, as the worker does every few minutes."""
        await self.database.rows(
            "UPDATE payment_accounts SET balance_checked_at = NULL WHERE gateway_account = $1"
            " RETURNING id",
            self.account,
        )
        await PayoutReader(self.transactions, self.gateways).run()

    async def payouts(self, **query: str) -> list[dict[str, Any]]:
        """Return the payouts as the owner sees them, newest first."""
        answer = await self.client.get(f"{self.path}/payouts", params=query, headers=self.owner)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()
        return rows

    async def payout(self, payout_id: int) -> dict[str, Any]:
        """Return a payout with its lines."""
        answer = await self.client.get(f"{self.path}/payouts/{payout_id}", headers=self.owner)
        assert answer.status_code == 200, answer.text
        row: dict[str, Any] = answer.json()
        return row

    async def statement(self, month: str | None = None) -> list[dict[str, Any]]:
        """Return the statement of a month, by default the present one."""
        query = {"month": month or this_month()}
        path = f"{self.path}/payouts/statement"
        answer = await self.client.get(path, params=query, headers=self.owner)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()
        return rows


Open = Callable[[], Awaitable[PayoutBooks]]


@pytest.fixture
def opened(
    client: httpx.AsyncClient,
    vouchers: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    database: Database,
    transactions: Transactions,
    gateways: Gateways,
) -> Open:
    """Open the books of one more organization."""

    async def open_books() -> PayoutBooks:
        books = PayoutBooks(client, vouchers, tokens, issuer, database, transactions, gateways)
        return await books.open()

    return open_books


@pytest.fixture
async def books(opened: Open) -> PayoutBooks:
    return await opened()
