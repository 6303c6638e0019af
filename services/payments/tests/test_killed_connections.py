"""A process that is killed at any point of connecting and disconnecting an account."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from services.payments.gateways import AccountMode
from services.payments.gateways.stripe import StripeSettings
from services.payments.settings import Settings
from services.payments.tests.killed import run_until_killed, work_for
from services.payments.tests.signals import ORGANIZATION, CardIssuer
from services.payments.tests.test_payment_accounts import BODY, PATH
from shared.testing import Database, Tokens

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "organization_owner", ORGANIZATION)


async def run_killed(
    settings: Settings, stripe: StripeSettings, log: Path, point: str, body: dict[str, Any] | None
) -> None:
    """Connect, or disconnect without a body, in a process that ends at a point such as `x.y:1`."""
    work = work_for(settings, stripe, AccountMode.ORGANIZATION, body=body)
    name, _, passes = point.partition(":")
    await run_until_killed("killed_connection", work, name, log, int(passes))


@pytest.mark.parametrize(
    "point",
    [
        "transaction.before_commit:1",
        "account.opened:1",
        "account.created:1",
        "transaction.before_commit:3",
        "account.connected:1",
        "account.linked:1",
    ],
)
async def test_a_killed_connection_is_continued_with_one_account(
    client: httpx.AsyncClient,
    settings: Settings,
    stripe_settings: StripeSettings,
    owner: Headers,
    issuer: CardIssuer,
    database: Database,
    tmp_path: Path,
    point: str,
) -> None:
    await run_killed(settings, stripe_settings, tmp_path / "points", point, BODY)
    continued = await client.post(PATH, json=BODY, headers=owner)
    assert continued.status_code == 201, continued.text
    account = continued.json()["account"]
    assert [each["id"] for each in await issuer.accounts()] == [account["gateway_account"]]
    await issuer.onboard(continued.json()["url"])
    rows = await database.rows("SELECT status, gateway_account FROM payment_accounts")
    assert [tuple(row.values()) for row in rows] == [("connected", account["gateway_account"])]


@pytest.mark.parametrize("point", ["account.disconnected:1", "transaction.before_commit:2"])
async def test_a_killed_disconnection_is_continued(
    client: httpx.AsyncClient,
    settings: Settings,
    stripe_settings: StripeSettings,
    owner: Headers,
    issuer: CardIssuer,
    tmp_path: Path,
    point: str,
) -> None:
    assert (await client.post(PATH, json=BODY, headers=owner)).status_code == 201
    await run_killed(settings, stripe_settings, tmp_path / "points", point, None)
    assert await issuer.accounts() == []
    assert (await client.get(PATH, headers=owner)).json()["status"] == "connected"
    ended = await client.delete(PATH, headers=owner)
    assert (ended.status_code, ended.json()["status"]) == (200, "disconnected")
