"""Cards that clients store with organizations: stored once, described, removed for good."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.payments.gateways import AccountMode, Gateways
from services.payments.service import saved_cards, webhooks
from services.payments.tests.connections import connect
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import (
    CLIENT,
    ORGANIZATION,
    OTHER_ORGANIZATION,
    CardIssuer,
    deliver,
    deliver_connect,
    event,
)
from services.payments.tests.test_charges import types
from services.payments.tests.test_lost_accounts import report_disconnection
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

PATH = "/api/payments/saved-cards"
MANDATE = "I allow Praxis Żółw to charge this card for sessions that I agree to."
THREE_D_SECURE, DECLINED = "4000002500003155", "4000000000000002"

Headers = dict[str, str]


@pytest.fixture(params=["installation", "organization"])
def accounts(request: pytest.FixtureRequest) -> AccountMode:
    return AccountMode(request.param)


@pytest.fixture
async def account(database: Database, issuer: CardIssuer, accounts: AccountMode) -> str | None:
    """The account that stores the cards: the organization's, or None for the installation's."""
    if accounts is AccountMode.INSTALLATION:
        return None
    account = await issuer.account()
    await connect(database, account)
    return account


@pytest.fixture
def books(issuer: CardIssuer, account: str | None) -> CardIssuer:
    """The gateway with the ledger of the account that stores the cards."""
    return issuer.of(account) if account else issuer


@pytest.fixture
def payer(tokens: Tokens) -> Headers:
    return tokens.bearer(CLIENT, "client", ORGANIZATION)


def body(token: str = "pm_card_visa", **changes: Any) -> dict[str, Any]:
    return {
        "organization_id": ORGANIZATION,
        "payment_token": token,
        "mandate_text": MANDATE,
        **changes,
    }


async def attached(books: CardIssuer, database: Database) -> int:
    """Return how many cards the gateway stores for the client."""
    rows = await database.rows(
        "SELECT DISTINCT gateway_customer FROM saved_cards WHERE gateway_customer IS NOT NULL"
    )
    return sum([len(await books.cards_of(row["gateway_customer"])) for row in rows])


async def test_a_card_is_stored_shown_and_removed(
    client: httpx.AsyncClient, payer: Headers, books: CardIssuer, database: Database
) -> None:
    saved = await client.post(PATH, json=body(), headers=payer)
    assert saved.status_code == 201, saved.text
    card = saved.json()
    assert (card["status"], card["brand"], card["last4"]) == ("active", "visa", "4242")
    assert (card["mandate_text"], card["client_id"]) == (MANDATE, CLIENT)
    assert await attached(books, database) == 1
    assert [each["id"] for each in (await client.get(PATH, headers=payer)).json()] == [card["id"]]
    second = await client.post(PATH, json=body("pm_card_mastercard"), headers=payer)
    assert second.json()["brand"] == "mastercard"
    rows = await database.rows("SELECT DISTINCT gateway_customer FROM saved_cards")
    assert len(rows) == 1, "a client is one customer of the account"
    removed = await client.delete(f"{PATH}/{card['id']}", headers=payer)
    again = await client.delete(f"{PATH}/{card['id']}", headers=payer)
    assert (removed.status_code, again.status_code) == (204, 204)
    assert await attached(books, database) == 1
    assert len((await client.get(PATH, headers=payer)).json()) == 1
    assert (await types(database)).count("payments.saved_card.removed.v1") == 1


async def test_a_bank_may_ask_the_client_first(
    client: httpx.AsyncClient, payer: Headers, books: CardIssuer, database: Database
) -> None:
    token = await books.card(THREE_D_SECURE)
    waiting = (await client.post(PATH, json=body(token), headers=payer)).json()
    assert waiting["status"] == "requires_action"
    path = f"{PATH}/{waiting['id']}/confirm"
    assert (await client.post(path, headers=payer)).json()["status"] == "requires_action"
    await books.authenticate(waiting["next_action"], success=True)
    stored = (await client.post(path, headers=payer)).json()
    assert (stored["status"], stored["last4"], stored["next_action"]) == ("active", "3155", None)
    settled = await client.post(path, headers=payer)
    assert (settled.status_code, settled.json()["code"]) == (409, "saved_card_settled")


async def test_a_webhook_stores_the_card_of_a_client_who_does_not_return(
    client: httpx.AsyncClient,
    payer: Headers,
    books: CardIssuer,
    account: str | None,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
) -> None:
    token = await books.card(THREE_D_SECURE)
    waiting = (await client.post(PATH, json=body(token), headers=payer)).json()
    await books.authenticate(waiting["next_action"], success=True)
    setup_id = waiting["next_action"]["client_secret"].partition("_secret_")[0]
    intent = {"id": setup_id, "status": "succeeded", "livemode": False, "payment_method": "pm_1"}
    foreign = event("setup_intent.succeeded", intent, account="acct_foreign")
    assert (await deliver_connect(client, foreign)).status_code == 200
    await webhooks.process_due(transactions, gateways)
    [row] = await database.rows("SELECT status FROM saved_cards")
    assert row["status"] == "requires_action", "another account stores no card of ours"
    if account:
        report = event("setup_intent.succeeded", intent, account=account)
        assert (await deliver_connect(client, report)).status_code == 200
    else:
        report = event("setup_intent.succeeded", intent)
        assert (await deliver(client, report)).status_code == 200
    await webhooks.process_due(transactions, gateways)
    [row] = await database.rows("SELECT status, last4 FROM saved_cards")
    assert (row["status"], row["last4"]) == ("active", "3155")


@pytest.mark.parametrize(
    ("token", "code"),
    [("pm_unknown", "card_token_unknown"), (DECLINED, "generic_decline")],
    ids=["unknown", "declined"],
)
async def test_a_card_that_cannot_be_stored_fails_with_its_reason(
    client: httpx.AsyncClient, payer: Headers, books: CardIssuer, token: str, code: str
) -> None:
    token = await books.card(token) if token.isdigit() else token
    failed = (await client.post(PATH, json=body(token), headers=payer)).json()
    assert (failed["status"], failed["failure_code"]) == ("failed", code)
    assert failed["failure_message"]


@pytest.mark.parametrize("lost", ["/v1/customers", "/v1/setup_intents"])
async def test_a_repeated_request_stores_one_card(
    client: httpx.AsyncClient,
    payer: Headers,
    books: CardIssuer,
    network: UnreliableNetwork,
    database: Database,
    lost: str,
) -> None:
    network.lose_answer = to_path(lost)
    headers = payer | {"Idempotency-Key": "one-card"}
    first = await client.post(PATH, json=body(), headers=headers)
    assert (first.status_code, first.json()["code"]) == (503, "service_unavailable")
    network.heal()
    second = await client.post(PATH, json=body(), headers=headers)
    assert (second.status_code, second.json()["status"]) == (201, "active")
    assert await attached(books, database) == 1
    assert len(await database.rows("SELECT id FROM saved_cards")) == 1


async def test_what_was_interrupted_is_finished_by_the_timer(
    client: httpx.AsyncClient,
    payer: Headers,
    books: CardIssuer,
    network: UnreliableNetwork,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
) -> None:
    async def settle(expire_after: timedelta = timedelta(days=1)) -> list[str]:
        await saved_cards.settle_unfinished(
            transactions, gateways, after=timedelta(0), expire_after=expire_after
        )
        rows = await database.rows("SELECT status FROM saved_cards ORDER BY id")
        return [row["status"] for row in rows]

    network.lose_answer = to_path("/confirm")
    assert (await client.post(PATH, json=body(), headers=payer)).json()["status"] == "pending"
    network.lose_answer = to_path("/v1/setup_intents")
    assert (await client.post(PATH, json=body(), headers=payer)).status_code == 503
    network.heal()
    token = await books.card(THREE_D_SECURE)
    waiting = (await client.post(PATH, json=body(token), headers=payer)).json()
    assert await settle() == ["active", "failed", "requires_action"]
    assert await settle(timedelta(0)) == ["active", "failed", "failed"]
    confirm = await client.post(f"{PATH}/{waiting['id']}/confirm", headers=payer)
    assert confirm.status_code == 409
    network.lose_request = to_path("/detach")
    [card] = await database.rows("SELECT id FROM saved_cards WHERE status = 'active'")
    assert (await client.delete(f"{PATH}/{card['id']}", headers=payer)).status_code == 204
    assert await attached(books, database) == 1
    network.heal()
    assert await settle() == ["removed", "failed", "failed"]
    assert await attached(books, database) == 0


async def test_a_card_that_is_removed_while_the_bank_asks_is_never_stored(
    client: httpx.AsyncClient, payer: Headers, books: CardIssuer, database: Database
) -> None:
    token = await books.card(THREE_D_SECURE)
    waiting = (await client.post(PATH, json=body(token), headers=payer)).json()
    assert (await client.delete(f"{PATH}/{waiting['id']}", headers=payer)).status_code == 204
    refused = await client.post(f"{PATH}/{waiting['id']}/confirm", headers=payer)
    assert (refused.status_code, refused.json()["code"]) == (409, "saved_card_settled")
    [row] = await database.rows("SELECT detached_at FROM saved_cards")
    assert row["detached_at"] is not None
    assert await attached(books, database) == 0


@pytest.mark.parametrize("accounts", ["organization"], indirect=True)
async def test_unfinished_cards_of_a_disconnected_account_end(
    client: httpx.AsyncClient,
    payer: Headers,
    issuer: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    account: str,
) -> None:
    async def settle() -> list[tuple[str, bool]]:
        """Run the timer; return the state of each card, and whether it is deleted."""
        await saved_cards.settle_unfinished(
            transactions, gateways, after=timedelta(0), expire_after=timedelta(days=1)
        )
        rows = await database.rows("SELECT status, detached_at FROM saved_cards ORDER BY id")
        return [(row["status"], row["detached_at"] is not None) for row in rows]

    tokens = [await issuer.of(account).card(THREE_D_SECURE) for _ in range(2)]
    cards = [(await client.post(PATH, json=body(token), headers=payer)).json() for token in tokens]
    await issuer.deauthorize(account)
    assert (await client.delete(f"{PATH}/{cards[0]['id']}", headers=payer)).status_code == 204
    unfinished = [("removed", False), ("requires_action", False)]
    assert await settle() == unfinished, "the key may be wrong: access may return"
    await report_disconnection(client, transactions, gateways, account)
    assert await settle() == [("removed", True), ("failed", False)]


async def test_a_deleted_clients_cards_are_removed(
    client: httpx.AsyncClient,
    payer: Headers,
    books: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
) -> None:
    assert (await client.post(PATH, json=body(), headers=payer)).status_code == 201
    for _ in range(2):
        async with transactions.system() as session:
            await saved_cards.remove_cards_of_client(session, CLIENT)
    after = timedelta(0)
    await saved_cards.settle_unfinished(transactions, gateways, after=after, expire_after=after)
    [row] = await database.rows("SELECT status, last4 FROM saved_cards")
    assert (row["status"], row["last4"]) == ("removed", None)
    assert await attached(books, database) == 0


async def test_who_may_see_and_remove_a_card(
    client: httpx.AsyncClient, payer: Headers, account: str | None, tokens: Tokens
) -> None:
    card_id = (await client.post(PATH, json=body(), headers=payer)).json()["id"]
    stranger = tokens.bearer(80, "client", OTHER_ORGANIZATION)
    other_client = tokens.bearer(71, "client", ORGANIZATION)
    viewer = tokens.bearer(72, "therapist", ORGANIZATION, ("view_payments",))
    manager = tokens.bearer(73, "therapist", ORGANIZATION, ("manage_payments",))
    path = f"/api/organizations/{ORGANIZATION}/payments/saved-cards"
    for headers, expected in ((stranger, 404), (other_client, 403), (viewer, 200)):
        assert (await client.get(path, headers=headers)).status_code == expected
    [shown] = (await client.get(f"{path}?client_id={CLIENT}", headers=viewer)).json()
    assert (shown["id"], shown["last4"], shown["next_action"]) == (card_id, "4242", None)
    assert (await client.get(f"{path}?client_id=71", headers=viewer)).json() == []
    assert (await client.get(PATH, headers=other_client)).json() == []
    for headers, expected in ((stranger, 404), (other_client, 404), (viewer, 403), (manager, 403)):
        answer = await client.delete(f"{PATH}/{card_id}", headers=headers)
        assert answer.status_code == expected
    for headers, expected in ((stranger, 404), (other_client, 403), (viewer, 403), (manager, 204)):
        answer = await client.delete(f"{path}/{card_id}", headers=headers)
        assert answer.status_code == expected
    foreign = await client.post(PATH, json=body(), headers=stranger)
    assert foreign.status_code == 404
    confirm = await client.post(f"{PATH}/{card_id}/confirm", headers=viewer)
    assert confirm.status_code == 403


async def test_two_requests_at_once_store_two_cards_of_one_customer(
    client: httpx.AsyncClient, payer: Headers, books: CardIssuer, database: Database
) -> None:
    answers = await asyncio.gather(
        *(client.post(PATH, json=body(), headers=payer) for _ in range(2))
    )
    assert [answer.json()["status"] for answer in answers] == ["active", "active"]
    rows = await database.rows("SELECT DISTINCT gateway_customer FROM saved_cards")
    assert len(rows) == 1
