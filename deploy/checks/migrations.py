"""`carnet check-migrations`: what the migrations build is what the models say."""

import asyncio
import os
import secrets
from importlib import import_module
from typing import Any

import asyncpg
import typer
from pydantic import SecretStr
from sqlalchemy import MetaData

from deploy.local.errors import StartError
from deploy.local.system import SERVICES
from shared.migrations import drift, upgrade
from shared.provisioning import database_url, in_database, provision
from shared.settings import asyncpg_url

VARIABLE = "CARNET_TEST_DATABASE_URL"

app = typer.Typer()


@app.command()
def check_migrations() -> None:
    """Migrate every schema in an empty database and compare it with the models.

    Needs an administrator's CARNET_TEST_DATABASE_URL; exits with 1 when they differ.
    """
    url = os.environ.get(VARIABLE)
    if not url:
        raise StartError(f"{VARIABLE} is not set.", "Use `make lint`, which starts a server.")
    differences = asyncio.run(_check(url))
    for service, found in differences.items():
        print(f"{service}: {'as the models say' if not found else 'differs'}")
        for difference in found:
            print(f"  {difference}")
    if any(differences.values()):
        raise typer.Exit(1)


async def _check(url: str) -> dict[str, list[Any]]:
    name = f"check_migrations_{os.getpid()}"
    admin = await asyncpg.connect(in_database(url, "postgres"))
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        return {
            service: await _differences(service, in_database(url, name)) for service in SERVICES
        }
    finally:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.close()


async def _differences(service: str, url: str) -> list[Any]:
    password = secrets.token_hex()
    await provision(url, service, password=password, owner_password=password)
    owner_url = asyncpg_url(SecretStr(database_url(url, f"{service}_owner", password)))
    await upgrade(f"services.{service}", owner_url)
    tables: MetaData = import_module(f"services.{service}.models").Base.metadata
    return await drift(owner_url, tables)
