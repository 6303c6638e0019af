"""`shared` over a real database and broker, through a small service of the tests' own."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from aio_pika.abc import AbstractChannel
from pydantic import SecretStr

from shared import bus
from shared.context import Origin
from shared.db import make_engine
from shared.provisioning import provision
from shared.settings import ServiceSettings
from shared.testing import PASSWORD, Database, Tokens, broker_url_of, client_of, new_database
from shared.tests import sample
from shared.transactions import Transactions

ORIGIN = Origin("request-1", user_id=5, role="staff", ip_address="192.0.2.7", user_agent="test")


@pytest.fixture(scope="session", name="session_database")
def sample_database(test_process: int) -> Iterator[Database]:
    with new_database(f"test_shared_{os.getpid()}_{test_process}") as admin_url:
        database = Database(sample.NAME, admin_url)
        asyncio.run(_prepare(database))
        yield database


async def _prepare(made: Database) -> None:
    await provision(made.admin_url, sample.NAME, password=PASSWORD, owner_password=PASSWORD)
    await sample.create_schema(made)


@pytest.fixture
def settings(database: Database, tokens: Tokens) -> ServiceSettings:
    return ServiceSettings(
        database_url=database.url,
        rabbitmq_url=SecretStr("amqp://unused"),
        **tokens.settings("audit"),
    )


@pytest.fixture
async def transactions(settings: ServiceSettings) -> AsyncIterator[Transactions]:
    engine = make_engine(settings.database_url)
    yield Transactions(engine, f"carnet/{sample.NAME}", sample.CATALOGUE)
    await engine.dispose()


@pytest.fixture
async def client(settings: ServiceSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(sample.create_app(settings)) as client:
        yield client


@pytest.fixture
def staff(tokens: Tokens) -> dict[str, str]:
    return tokens.bearer(5, "staff", 7)


@pytest.fixture
def sample_url(rabbitmq_url: SecretStr) -> SecretStr:
    """The broker's address for the sample, whose user may do what a service's may."""
    return broker_url_of(sample.NAME, rabbitmq_url)


@pytest.fixture
async def channel(rabbitmq_url: SecretStr) -> AsyncIterator[AbstractChannel]:
    async with bus.connected(rabbitmq_url, name="test") as connection:
        yield await bus.publishing_channel(connection)
