"""Provisioning from the environment: every service's roles and schema, or nothing."""

import os
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from deploy.docker.environment import SERVICES
from deploy.docker.provision import ADMINISTRATOR, passwords_of, provision_all
from shared.provisioning import database_url, in_database
from shared.testing import PASSWORD

pytestmark = pytest.mark.anyio


@pytest.fixture
async def admin_url() -> AsyncIterator[str]:
    """The address of a database without roles and schemas, for an administrator."""
    server = os.environ["CARNET_TEST_DATABASE_URL"]
    name = f"provision_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(in_database(server, "postgres"))
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield in_database(server, name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


def environment(admin_url: str) -> dict[str, str]:
    # Roles belong to the whole server: the other tests' password is theirs too.
    passwords = {name: PASSWORD for service in SERVICES for name in passwords_of(service)}
    return {ADMINISTRATOR: admin_url, **passwords}


async def test_every_service_can_sign_in_to_its_schema_and_again(admin_url: str) -> None:
    for _ in range(2):
        await provision_all(environment(admin_url))
    for service in SERVICES:
        connection = await asyncpg.connect(database_url(admin_url, service, PASSWORD))
        try:
            assert await connection.fetchval("SELECT current_schema()") == service
        finally:
            await connection.close()


async def test_nothing_is_done_when_something_is_missing(admin_url: str) -> None:
    told = environment(admin_url)
    told["AUDIT_OWNER_DATABASE_PASSWORD"] = ""
    with pytest.raises(LookupError, match="not set: AUDIT_OWNER_DATABASE_PASSWORD"):
        await provision_all(told)
    connection = await asyncpg.connect(admin_url)
    try:
        schemas = await connection.fetch("SELECT nspname FROM pg_namespace")
    finally:
        await connection.close()
    assert not {row["nspname"] for row in schemas} & set(SERVICES)
