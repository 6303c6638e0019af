"""A process that is killed at any point of storing and removing a card."""

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from services.payments.gateways import AccountMode, Gateways
from services.payments.gateways.stripe import StripeSettings
from services.payments.service import saved_cards
from services.payments.settings import Settings
from services.payments.tests.connections import connect
from services.payments.tests.signals import CLIENT, ORGANIZATION, CardIssuer
from services.payments.tests.test_saved_cards import PATH, attached, body
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


@pytest.fixture
async def books(database: Database, issuer: CardIssuer) -> CardIssuer:
    """The gateway with the ledger of the organization's account."""
    account = await issuer.account()
    await connect(database, account)
    return issuer.of(account)


@pytest.fixture
def payer(tokens: Tokens) -> Headers:
    return tokens.bearer(CLIENT, "client", ORGANIZATION)


async def run_killed(
    settings: Settings, stripe: StripeSettings, log: Path, point: str, card_id: int | None = None
) -> None:
    """Store a card, or remove the one with an id, in a process that ends at a fail point."""
    task = {
        "database_url": settings.database_url.get_secret_value(),
        "api_base": stripe.api_base,
        "api_key": stripe.api_key.get_secret_value(),
        "accounts": AccountMode.ORGANIZATION,
        "body": body(),
        "card_id": card_id,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.payments.tests.killed_saved_card"),
        stdin=asyncio.subprocess.PIPE,
        env=os.environ | {"FAILPOINT": point, "FAILPOINTS_LOG": str(log)},
    )
    await process.communicate(json.dumps(task).encode())
    assert process.returncode == -9, "the fail point was not passed"


async def settle(transactions: Transactions, gateways: Gateways) -> None:
    """Let the timer finish what was interrupted."""
    await saved_cards.settle_unfinished(
        transactions, gateways, after=timedelta(0), expire_after=timedelta(days=1)
    )


@pytest.mark.parametrize(
    ("point", "status", "cards"),
    [
        ("saved_card.inserted:1", "failed", 0),
        ("saved_card.prepared:1", "failed", 0),
        ("saved_card.confirmed:1", "active", 1),
    ],
)
async def test_a_card_that_was_being_stored_is_stored_or_not(
    settings: Settings,
    stripe_settings: StripeSettings,
    books: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    tmp_path: Path,
    point: str,
    status: str,
    cards: int,
) -> None:
    await run_killed(settings, stripe_settings, tmp_path / "points", point)
    for _ in range(2):
        await settle(transactions, gateways)
        rows = await database.rows("SELECT status FROM saved_cards")
        assert [row["status"] for row in rows] == [status]
        assert await attached(books, database) == cards


async def test_a_card_that_was_being_removed_is_removed(
    client: httpx.AsyncClient,
    payer: Headers,
    settings: Settings,
    stripe_settings: StripeSettings,
    books: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    tmp_path: Path,
) -> None:
    card = (await client.post(PATH, json=body(), headers=payer)).json()
    assert await attached(books, database) == 1
    point = "saved_card.removed:1"
    await run_killed(settings, stripe_settings, tmp_path / "points", point, card["id"])
    assert (await client.get(PATH, headers=payer)).json() == []
    await settle(transactions, gateways)
    assert await attached(books, database) == 0
