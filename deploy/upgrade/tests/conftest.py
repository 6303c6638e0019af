"""Fixtures of the upgrade's tests: real databases of both versions."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.proof.rehearsal.databases import (
    Upgraded,
    VersionOne,
    VersionTwo,
    copy_template,
    drop,
    make_template,
    make_version_one,
    server_of_version_one,
    upgraded,
)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def admin_url() -> str:
    """The administrator's address of the tests' server."""
    url = os.environ.get("CARNET_TEST_DATABASE_URL")
    if not url:
        pytest.exit("CARNET_TEST_DATABASE_URL is not set: use `make test`", returncode=2)
    return url


@pytest.fixture(scope="session")
def v1_server(admin_url: str) -> str:
    """The administrator's address of version 1's server."""
    return server_of_version_one(otherwise=admin_url)


@pytest.fixture(scope="session")
def template(admin_url: str) -> Iterator[str]:
    """A migrated database of version 2 to copy from."""
    name = asyncio.run(make_template(admin_url))
    yield name
    asyncio.run(drop(admin_url, name))


@pytest.fixture
async def v1(v1_server: str) -> AsyncIterator[VersionOne]:
    """Version 1 with the sample's rows."""
    made = await make_version_one(v1_server, "schema.sql", "sample.sql")
    yield made
    await drop(v1_server, made.name)


@pytest.fixture
async def empty_v1(v1_server: str) -> AsyncIterator[VersionOne]:
    """Version 1 without rows."""
    made = await make_version_one(v1_server, "schema.sql")
    yield made
    await drop(v1_server, made.name)


@pytest.fixture
async def v2(admin_url: str, template: str) -> AsyncIterator[VersionTwo]:
    """Version 2, migrated and empty."""
    made = await copy_template(admin_url, template)
    yield made
    await drop(admin_url, made.name)


@pytest.fixture(scope="module")
async def sample(admin_url: str, v1_server: str, template: str) -> AsyncIterator[Upgraded]:
    """The sample, upgraded once, for tests that only look."""
    v1 = await make_version_one(v1_server, "schema.sql", "sample.sql")
    v2 = await copy_template(admin_url, template)
    yield Upgraded(v1, v2, await upgraded(v1, v2))
    await drop(v1_server, v1.name)
    await drop(admin_url, v2.name)
