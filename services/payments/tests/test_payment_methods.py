"""The methods of payment of an organization, as a browser reads them."""

from typing import Any

import httpx
import pytest

from services.payments.gateways import AccountMode
from services.payments.tests.connections import connect
from services.payments.tests.signals import CLIENT, ORGANIZATION, OTHER_ORGANIZATION, CardIssuer
from shared.testing import Database, Tokens

pytestmark = pytest.mark.anyio

Headers = dict[str, str]

PATH = f"/api/payments/methods?organization_id={ORGANIZATION}"
MODES = [AccountMode.INSTALLATION, AccountMode.ORGANIZATION]


@pytest.fixture(params=MODES, ids=str)
def accounts(request: pytest.FixtureRequest) -> AccountMode:
    mode: AccountMode = request.param
    return mode


only_organization = pytest.mark.parametrize(
    "accounts", [AccountMode.ORGANIZATION], indirect=True, ids=str
)
only_installation = pytest.mark.parametrize(
    "accounts", [AccountMode.INSTALLATION], indirect=True, ids=str
)


@pytest.fixture
def payer(tokens: Tokens) -> Headers:
    return tokens.bearer(CLIENT, "client", ORGANIZATION)


async def cards(client: httpx.AsyncClient, headers: Headers) -> dict[str, Any]:
    answer = await client.get(PATH, headers=headers)
    assert answer.status_code == 200, answer.text
    return next(each for each in answer.json() if each["method"] == "credit_card")


async def test_cash_needs_nothing(client: httpx.AsyncClient, payer: Headers) -> None:
    methods = (await client.get(PATH, headers=payer)).json()
    assert [each["method"] for each in methods] == ["credit_card", "bank_transfer", "cash", "other"]
    assert methods[2] == {
        "method": "cash",
        "gateway": "manual",
        "available": True,
        "online": False,
        "publishable_key": None,
        "account": None,
        "live": None,
        "reason": None,
    }


@only_installation
async def test_the_installations_account_has_no_name(
    client: httpx.AsyncClient, payer: Headers
) -> None:
    assert await cards(client, payer) == {
        "method": "credit_card",
        "gateway": "stripe",
        "available": True,
        "online": True,
        "publishable_key": "pk_test_payments",
        "account": None,
        "live": False,
        "reason": None,
    }


@only_organization
async def test_a_browser_makes_tokens_for_the_organizations_account(
    client: httpx.AsyncClient, payer: Headers, issuer: CardIssuer, database: Database
) -> None:
    account = await issuer.account()
    await connect(database, account)
    await connect(database, await issuer.account(), OTHER_ORGANIZATION)
    method = await cards(client, payer)
    assert (method["available"], method["account"], method["live"]) == (True, account, False)
    assert (method["publishable_key"], method["reason"]) == ("pk_test_payments", None)


@only_organization
@pytest.mark.parametrize("connected", [True, False], ids=["restricted", "not-connected"])
async def test_a_client_learns_that_and_staff_why_cards_are_not_available(
    client: httpx.AsyncClient, payer: Headers, tokens: Tokens, database: Database, connected: bool
) -> None:
    if connected:
        await connect(database, "acct_restricted", charges_enabled=False)
    method = await cards(client, payer)
    assert (method["available"], method["account"]) == (False, None)
    assert method["reason"] == {
        "code": "cards_not_available",
        "message": "The organization cannot take card payments at present. Choose another method of"
        " payment.",
    }
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    reason = (await cards(client, owner))["reason"]
    assert reason["code"] == "cards_not_available"
    assert ("examines" if connected else "no account") in reason["message"]


@only_organization
async def test_only_users_of_the_organization_and_administrators_read_them(
    client: httpx.AsyncClient, tokens: Tokens
) -> None:
    stranger = tokens.bearer(5, "client", OTHER_ORGANIZATION)
    admin = tokens.bearer(1, "admin", None)
    assert (await client.get(PATH)).status_code == 401
    assert (await client.get(PATH, headers=stranger)).status_code == 404
    assert (await client.get(PATH, headers=admin)).status_code == 200
    assert (await client.get("/api/payments/methods", headers=admin)).status_code == 422


@only_installation
async def test_an_installation_with_one_account_connects_no_others(
    client: httpx.AsyncClient, tokens: Tokens
) -> None:
    owner = tokens.bearer(1, "organization_owner", ORGANIZATION)
    path = f"/api/organizations/{ORGANIZATION}/payment-account"
    body = {"return_url": "https://console.example/"}
    for answer in (
        await client.post(path, json=body, headers=owner),
        await client.get(path, headers=owner),
        await client.delete(path, headers=owner),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "installation_account_used")
