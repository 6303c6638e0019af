"""A process that is killed at any point of storing and removing a card."""

from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from services.payments.gateways import AccountMode, Gateways
from services.payments.gateways.stripe import StripeSettings
from services.payments.service import saved_cards
from services.payments.settings import Settings
from services.payments.tests.connections import connect
from services.payments.tests.killed import run_until_killed, work_for
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


async def settle(transactions: Transactions, gateways: Gateways) -> None:
    """Let the timer finish what was interrupted."""
    await saved_cards.settle_unfinished(
        transactions, gateways, after=timedelta(0), expire_after=timedelta(days=1)
    )


@pytest.mark.parametrize(
    ("point", "status", "cards"),
    [
        ("saved_card.inserted", "failed", 0),
        ("saved_card.prepared", "failed", 0),
        ("saved_card.confirmed", "active", 1),
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
    work = work_for(settings, stripe_settings, gateways.accounts, body=body())
    await run_until_killed("killed_saved_card", work, point, tmp_path / "points")
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
    work = work_for(settings, stripe_settings, gateways.accounts, card_id=card["id"])
    await run_until_killed("killed_saved_card", work, "saved_card.removed", tmp_path / "points")
    assert (await client.get(PATH, headers=payer)).json() == []
    await settle(transactions, gateways)
    assert await attached(books, database) == 0
