"""Organizations connect accounts of their own at the payment gateway."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.payments.app import create_app
from services.payments.gateways import AccountMode, Gateways
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.service import webhooks
from services.payments.service.account_refreshes import AccountRefresher
from services.payments.settings import Settings
from services.payments.tests.connections import connect
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import (
    ORGANIZATION,
    OTHER_ORGANIZATION,
    CardIssuer,
    deliver_connect,
    event,
    order,
)
from services.payments.tests.test_charges import charge
from shared.testing import Database, Tokens, client_of
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]

PATH = f"/api/organizations/{ORGANIZATION}/payment-account"
RETURN = "https://console.example/payments"
BODY = {"return_url": RETURN, "refresh_url": "https://console.example/again", "country": "PL"}


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "organization_owner", ORGANIZATION)


@pytest.fixture
def refresher(transactions: Transactions, gateways: Gateways) -> AccountRefresher:
    return AccountRefresher(transactions, gateways)


async def onboarded(
    client: httpx.AsyncClient, owner: Headers, issuer: CardIssuer, outcome: str = "complete"
) -> dict[str, Any]:
    """Connect an account, be its owner, and return it as the request returned it."""
    answer = await client.post(PATH, json=BODY, headers=owner)
    assert answer.status_code == 201, answer.text
    link = answer.json()
    assert await issuer.onboard(link["url"], outcome) == RETURN
    account: dict[str, Any] = link["account"]
    return account


async def due_now(database: Database) -> None:
    await database.rows("UPDATE payment_accounts SET refresh_at = NULL RETURNING id")


async def deliver_update(
    client: httpx.AsyncClient,
    transactions: Transactions,
    gateways: Gateways,
    account: str,
    kind: str = "account.updated",
    content: Mapping[str, Any] | None = None,
) -> None:
    """Deliver an event of an account and let the worker apply it."""
    body = event(kind, {"id": account, **(content or {})}, account=account)
    assert (await deliver_connect(client, body)).status_code == 200
    await webhooks.process_due(transactions, gateways)


async def events_of(database: Database) -> list[str]:
    return [
        each["type"].split(".")[2]
        for each in await database.events()
        if each["data"]["entity_type"] == "payment_account"
    ]


async def last_outcome(database: Database) -> str:
    rows = await database.rows("SELECT outcome FROM webhook_events ORDER BY id DESC LIMIT 1")
    return str(rows[0]["outcome"])


async def test_an_owner_connects_an_account_and_takes_cards(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    issuer: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
) -> None:
    assert (await client.get(PATH, headers=owner)).status_code == 404
    account = await onboarded(client, owner, issuer)
    id_ = account["gateway_account"]
    assert (account["status"], account["charges_enabled"]) == ("connected", False)
    assert account["country"] == "PL"
    assert "requires more information" in account["problem"]
    await deliver_update(client, transactions, gateways, id_)
    state = (await client.get(PATH, headers=owner)).json()
    assert (state["charges_enabled"], state["payouts_enabled"]) == (True, True)
    assert (state["requirements"], state["problem"], state["currency"]) == (
        [],
        None,
        "PLN",
    )
    assert await events_of(database) == ["created", "connected", "updated"]
    paid = await charge(client, vouchers, order())
    assert paid["status"] == "succeeded"
    assert len(await issuer.of(id_).intents()) == 1
    [stored] = await issuer.accounts()
    assert stored["metadata"]["organization_id"] == str(ORGANIZATION)
    assert stored["controller"]["losses"]["payments"] == "stripe"


async def test_two_at_once_get_one_account(
    client: httpx.AsyncClient, owner: Headers, issuer: CardIssuer, database: Database
) -> None:
    answers = await asyncio.gather(
        *(client.post(PATH, json=BODY, headers=owner) for _ in range(10))
    )
    assert [answer.status_code for answer in answers] == [201] * 10
    assert len({answer.json()["url"] for answer in answers}) == 10, "each link is opened once"
    assert len({answer.json()["account"]["gateway_account"] for answer in answers}) == 1
    assert len(await issuer.accounts()) == 1
    assert len(await database.rows("SELECT id FROM payment_accounts")) == 1
    assert await events_of(database) == ["created", "connected"]


@pytest.mark.parametrize("lost", ["lose_request", "lose_answer"])
@pytest.mark.parametrize("step", ["/v1/accounts", "/v1/account_links"])
async def test_a_lost_call_is_continued(
    client: httpx.AsyncClient,
    owner: Headers,
    issuer: CardIssuer,
    network: UnreliableNetwork,
    lost: str,
    step: str,
) -> None:
    setattr(network, lost, to_path(step))
    refused = await client.post(PATH, json=BODY, headers=owner)
    assert (refused.status_code, refused.json()["code"]) == (503, "service_unavailable")
    network.heal()
    assert (await client.post(PATH, json=BODY, headers=owner)).status_code == 201
    assert len(await issuer.accounts()) == 1


async def test_an_interrupted_creation_is_continued_after_the_key_is_forgotten(
    client: httpx.AsyncClient,
    owner: Headers,
    issuer: CardIssuer,
    database: Database,
    refresher: AccountRefresher,
) -> None:
    """Stripe forgets keys after a day: the account is found by the name that we gave it."""
    await client.post(PATH, json=BODY, headers=owner)
    await database.rows(
        "UPDATE payment_accounts SET status = 'connecting', gateway_account = NULL,"
        " refresh_at = NULL, country = NULL RETURNING id"
    )
    await refresher.refresh_due()
    state = (await client.get(PATH, headers=owner)).json()
    [account] = await issuer.accounts()
    assert (state["status"], state["gateway_account"]) == ("connected", account["id"])


async def test_a_refused_country_can_be_corrected(
    client: httpx.AsyncClient, owner: Headers, issuer: CardIssuer, database: Database
) -> None:
    refused = await client.post(PATH, json={**BODY, "country": "XX"}, headers=owner)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_account_refused")
    assert "XX is not currently supported" in refused.json()["detail"]
    assert (await client.get(PATH, headers=owner)).json()["status"] == "disconnected"
    assert (await client.post(PATH, json=BODY, headers=owner)).status_code == 201
    other = await client.post(PATH, json={**BODY, "country": "DE"}, headers=owner)
    assert (other.status_code, other.json()["code"]) == (409, "payment_account_country_fixed")
    assert [account["country"] for account in await issuer.accounts()] == ["PL"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "return_url"),
        ({"return_url": "javascript:alert(1)"}, "return_url"),
        ({"return_url": "/payments"}, "return_url"),
        ({"return_url": "https://user:word@console.example/"}, "return_url"),
        ({"return_url": RETURN, "refresh_url": "ftp://console.example/"}, "refresh_url"),
        ({"return_url": RETURN, "country": "Poland"}, "country"),
    ],
    ids=["missing", "script", "relative", "credentials", "ftp", "country"],
)
async def test_bad_input_is_refused(
    client: httpx.AsyncClient, owner: Headers, issuer: CardIssuer, body: Any, field: str
) -> None:
    refused = await client.post(PATH, json=body, headers=owner)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
    assert await issuer.accounts() == []


async def test_others_may_not_connect_or_see_it(
    client: httpx.AsyncClient, tokens: Tokens, issuer: CardIssuer
) -> None:
    stranger = tokens.bearer(2, "organization_owner", OTHER_ORGANIZATION)
    member = tokens.bearer(3, "staff", ORGANIZATION)
    viewer = tokens.bearer(4, "staff", ORGANIZATION, permissions=("view_payments",))
    for headers, statuses in (
        (stranger, [404, 404, 404]),
        (member, [403, 403, 403]),
        (viewer, [403, 404, 403]),
    ):
        answers = [
            await client.post(PATH, json=BODY, headers=headers),
            await client.get(PATH, headers=headers),
            await client.delete(PATH, headers=headers),
        ]
        assert [answer.status_code for answer in answers] == statuses
    assert await issuer.accounts() == []


async def test_an_account_is_disconnected_and_another_one_connected(
    client: httpx.AsyncClient, owner: Headers, issuer: CardIssuer, database: Database
) -> None:
    first = await onboarded(client, owner, issuer)
    ended = await client.delete(PATH, headers=owner)
    assert (ended.status_code, ended.json()["status"]) == (200, "disconnected")
    assert ended.json()["disconnected_at"] is not None
    assert await issuer.accounts() == []
    assert (await client.delete(PATH, headers=owner)).status_code == 404
    second = await client.post(PATH, json=BODY, headers=owner)
    assert second.json()["account"]["gateway_account"] != first["gateway_account"]
    first_events, second_events = ["created", "connected", "disconnected"], ["created", "connected"]
    assert await events_of(database) == [*first_events, *second_events]


async def test_an_account_with_an_unfinished_payment_stays(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    issuer: CardIssuer,
    database: Database,
) -> None:
    account = await issuer.account()
    await connect(database, account)
    token = await issuer.of(account).card("4000002500003155")
    await charge(client, vouchers, order(payment_token=token))
    refused = await client.delete(PATH, headers=owner)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_account_in_use")
    assert len(await issuer.accounts()) == 1


async def test_without_a_client_id_staff_learn_where_to_disconnect(
    settings: Settings,
    stripe_settings: StripeSettings,
    network: UnreliableNetwork,
    owner: Headers,
    issuer: CardIssuer,
) -> None:
    without = stripe_settings.model_copy(update={"client_id": None})
    gateway = StripeGateway(without, network)
    opened = Gateways(dict.fromkeys(Method, gateway), accounts=AccountMode.ORGANIZATION)
    async with client_of(create_app(settings, gateways=opened)) as client:
        account = await onboarded(client, owner, issuer)
        refused = await client.delete(PATH, headers=owner)
        assert (refused.status_code, refused.json()["code"]) == (
            409,
            "payment_account_not_disconnected",
        )
        assert "PAYMENTS_STRIPE_CLIENT_ID" in refused.json()["detail"]
        await issuer.deauthorize(account["gateway_account"])
        ended = await client.delete(PATH, headers=owner)
        assert (ended.status_code, ended.json()["status"]) == (200, "disconnected")


async def test_a_live_installation_refuses_test_accounts_and_plain_addresses(
    settings: Settings,
    stripe_settings: StripeSettings,
    network: UnreliableNetwork,
    owner: Headers,
    database: Database,
) -> None:
    live = stripe_settings.model_copy(update={"api_key": SecretStr("sk_live_payments")})
    gateway = StripeGateway(live, network)
    opened = Gateways(dict.fromkeys(Method, gateway), accounts=AccountMode.ORGANIZATION)
    await connect(database, "acct_of_test_mode")
    async with client_of(create_app(settings, gateways=opened)) as client:
        plain = await client.post(PATH, json={"return_url": "http://a.example/"}, headers=owner)
        assert (plain.status_code, plain.json()["errors"][0]["field"]) == (422, "return_url")
        refused = await client.post(PATH, json=BODY, headers=owner)
        assert (refused.status_code, refused.json()["code"]) == (
            409,
            "payment_account_of_other_mode",
        )
        assert "test mode" in refused.json()["detail"]
        assert "test mode" in (await client.get(PATH, headers=owner)).json()["problem"]
        ended = await client.delete(PATH, headers=owner)
        assert (ended.status_code, ended.json()["status"]) == (200, "disconnected")


@pytest.mark.parametrize(
    ("outcome", "reason", "sentence"),
    [
        ("restrict", "requirements.past_due", "individual.verification.document"),
        ("reject", "rejected.other", "has rejected the account"),
    ],
)
async def test_the_owner_learns_what_the_account_lacks(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    issuer: CardIssuer,
    refresher: AccountRefresher,
    database: Database,
    outcome: str,
    reason: str,
    sentence: str,
) -> None:
    await onboarded(client, owner, issuer, outcome)
    await due_now(database)
    await refresher.refresh_due()
    state = (await client.get(PATH, headers=owner)).json()
    assert (state["charges_enabled"], state["disabled_reason"]) == (False, reason)
    assert sentence in state["problem"]
    failed = await charge(client, vouchers, order())
    assert failed["failure"]["code"] == "cards_not_available"


async def test_events_are_only_a_reason_to_look(
    client: httpx.AsyncClient,
    owner: Headers,
    issuer: CardIssuer,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
) -> None:
    """An event that is late, or that its sender made up, does not decide anything."""
    account = (await onboarded(client, owner, issuer))["gateway_account"]
    stale = {"charges_enabled": False, "requirements": {"disabled_reason": "requirements.past_due"}}
    await deliver_update(client, transactions, gateways, account, content=stale)
    assert (await client.get(PATH, headers=owner)).json()["charges_enabled"] is True
    assert await last_outcome(database) == "applied"
    await deliver_update(client, transactions, gateways, account, content=stale)
    assert await last_outcome(database) == "unchanged"
    gone = "account.application.deauthorized"
    await deliver_update(client, transactions, gateways, account, gone, {"id": "ca_1"})
    assert (await client.get(PATH, headers=owner)).json()["status"] == "connected"
    await issuer.deauthorize(account)
    await deliver_update(client, transactions, gateways, account, gone, {"id": "ca_1"})
    state = (await client.get(PATH, headers=owner)).json()
    assert (state["status"], state["charges_enabled"]) == ("disconnected", False)
    await deliver_update(client, transactions, gateways, account)
    assert await last_outcome(database) == "unchanged"
    assert (await events_of(database))[-1] == "disconnected"


async def test_a_wrong_key_disconnects_nothing(
    client: httpx.AsyncClient,
    vouchers: Headers,
    owner: Headers,
    issuer: CardIssuer,
    refresher: AccountRefresher,
    database: Database,
) -> None:
    """Without an event about it, an account that cannot be read may be so again."""
    account = (await onboarded(client, owner, issuer))["gateway_account"]
    await issuer.deauthorize(account)
    await due_now(database)
    await refresher.refresh_due()
    state = (await client.get(PATH, headers=owner)).json()
    assert (state["status"], state["charges_enabled"]) == ("connected", False)
    assert "no access" in state["problem"]
    refused = await client.post(PATH, json=BODY, headers=owner)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_account_gone")
    again = await client.post(PATH, json=BODY, headers=owner)
    assert again.json()["account"]["gateway_account"] != account


async def test_a_complete_account_is_read_once_a_day(
    client: httpx.AsyncClient,
    owner: Headers,
    issuer: CardIssuer,
    refresher: AccountRefresher,
    network: UnreliableNetwork,
    database: Database,
) -> None:
    account = (await onboarded(client, owner, issuer))["gateway_account"]
    for _ in range(2):
        await due_now(database)
        await refresher.refresh_due()
    network.requests.clear()
    await refresher.refresh_due()
    assert network.requests == []
    [row] = await database.rows(
        "SELECT refresh_at > now() + interval '23 hours' AS tomorrow, gateway_account"
        " FROM payment_accounts"
    )
    assert (row["tomorrow"], row["gateway_account"]) == (True, account)
