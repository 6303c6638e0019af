"""The payments service over a real database and a local card gateway."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from pydantic import SecretStr

from services.payments.app import NAME, create_app
from services.payments.events import CATALOGUE
from services.payments.gateways import AccountMode, Gateway, Gateways
from services.payments.gateways.manual import ManualGateway
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method
from services.payments.service.reconciliation import Reconciler
from services.payments.settings import Settings
from services.payments.tests.connections import connect
from services.payments.tests.network import UnreliableNetwork
from services.payments.tests.signals import CONNECT_WEBHOOK_SECRET, WEBHOOK_SECRET, CardIssuer
from services.payments.worker import reconciler_of
from shared.db import make_engine
from shared.mail.settings import encryption_of
from shared.testing import PATIENCE, Database, Tokens, client_of, free_port, service_database
from shared.transactions import Transactions

session_database = service_database("services.payments")

API_KEY = "sk_test_payments"


@pytest.fixture(scope="session")
def stripe_url() -> Iterator[str]:
    """The address of a card gateway that lives as long as the tests do."""
    port = free_port()
    command = [sys.executable, "-m", "deploy.local.card_gateway", "--port", str(port)]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/v1/balance", auth=(API_KEY, ""))
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the card gateway did not start")


@pytest.fixture
async def network() -> AsyncIterator[UnreliableNetwork]:
    """The network between us and the card gateway: reliable unless a test sets a loss."""
    network = UnreliableNetwork()
    yield network
    await network.aclose()


@pytest.fixture
def stripe_settings(stripe_url: str) -> StripeSettings:
    """Settings of the card gateway, whose books are empty again.

    The ids of payments begin at 1 in each test, and so do the idempotency keys.
    """
    httpx.delete(f"{stripe_url}/_test/data").raise_for_status()
    return StripeSettings(
        api_base=stripe_url,
        api_key=SecretStr(API_KEY),
        webhook_secret=SecretStr(WEBHOOK_SECRET),
        connect_webhook_secret=SecretStr(CONNECT_WEBHOOK_SECRET),
        publishable_key="pk_test_payments",
        client_id="ca_LocalPlatform",
    )


@pytest.fixture
def accounts() -> AccountMode:
    """Whose account receives the payments of a test; a test file may replace it."""
    return AccountMode.INSTALLATION


@pytest.fixture
async def gateways(
    stripe_settings: StripeSettings, network: UnreliableNetwork, accounts: AccountMode
) -> AsyncIterator[Gateways]:
    stripe, manual = StripeGateway(stripe_settings, network), ManualGateway()
    cards = {Method.CREDIT_CARD: stripe}
    by_method: dict[str, Gateway] = {method: cards.get(method, manual) for method in Method}
    opened = Gateways(by_method, accounts=accounts)
    yield opened
    await opened.aclose()


@pytest.fixture
async def issuer(stripe_url: str) -> AsyncIterator[CardIssuer]:
    """The card gateway as its own console and the payer's bank see it."""
    async with httpx.AsyncClient(base_url=stripe_url, auth=(API_KEY, "")) as client:
        yield CardIssuer(client)


@pytest.fixture
async def account(database: Database, issuer: CardIssuer) -> str:
    """The account that the organization has connected."""
    account = await issuer.account()
    await connect(database, account)
    return account


@pytest.fixture
def settings(database: Database, tokens: Tokens) -> Settings:
    return Settings(
        database_url=database.url,
        rabbitmq_url="amqp://unused",
        reconcile_after_seconds=0.001,
        gateway_calls_per_second=1000,
        **tokens.settings(NAME),
    )


@pytest.fixture
async def client(settings: Settings, gateways: Gateways) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(settings, gateways=gateways)) as client:
        yield client


@pytest.fixture
async def transactions(settings: Settings) -> AsyncIterator[Transactions]:
    # Forty at once, so that those who race wait for each other and not for a connection.
    engine = make_engine(settings.database_url, pool_size=20)
    yield Transactions(engine, f"carnet/{NAME}", CATALOGUE, mail=encryption_of(settings))
    await engine.dispose()


@pytest.fixture
def reconciler(transactions: Transactions, gateways: Gateways, settings: Settings) -> Reconciler:
    return reconciler_of(transactions, gateways, settings)


@pytest.fixture
def vouchers(tokens: Tokens) -> dict[str, str]:
    """The headers of the vouchers service's calls."""
    return tokens.service_bearer("vouchers", NAME)
