"""The vouchers service over a real database; the services it calls are injected transports."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI

from services.vouchers.app import NAME, create_app
from services.vouchers.events import CATALOGUE
from services.vouchers.models import AccountMode
from services.vouchers.settings import Settings
from services.vouchers.tests.environment import Transports, settings_of, transports_of
from services.vouchers.tests.outside import Identity, Organizations, Payments
from services.vouchers.tests.people import People
from services.vouchers.tests.practice import Practice
from services.vouchers.tests.stage import Stage
from shared.db import make_engine
from shared.mail.settings import encryption_of
from shared.testing import Database, Tokens, client_of, service_database
from shared.transactions import Transactions

session_database = service_database("services.vouchers")


@pytest.fixture
def payments() -> Payments:
    return Payments()


@pytest.fixture
def organizations() -> Organizations:
    return Organizations()


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
def accounts() -> AccountMode:
    """Whose account receives card payments; a test file may replace it."""
    return AccountMode.INSTALLATION


@pytest.fixture
def settings(database: Database, tokens: Tokens, accounts: AccountMode) -> Settings:
    return settings_of(database, tokens, accounts=accounts)


@pytest.fixture
def transports(payments: Payments, organizations: Organizations, identity: Identity) -> Transports:
    return transports_of(payments, organizations, identity)


@pytest.fixture
async def app(settings: Settings, transports: Transports) -> FastAPI:
    return create_app(settings, transports=transports)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def transactions(settings: Settings) -> AsyncIterator[Transactions]:
    engine = make_engine(settings.database_url)
    yield Transactions(engine, f"carnet/{NAME}", CATALOGUE, mail=encryption_of(settings))
    await engine.dispose()


@pytest.fixture
def people(tokens: Tokens) -> People:
    return People(tokens)


@pytest.fixture
def practice(client: httpx.AsyncClient, people: People, database: Database) -> Practice:
    return Practice(client, people, database)


@pytest.fixture
def stage(session_database: Database, tokens: Tokens) -> Iterator[Stage]:
    stage = Stage(session_database, tokens)
    yield stage
    stage.close()
