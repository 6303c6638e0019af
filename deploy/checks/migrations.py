"""`carnet check-migrations`: compares the schemas that the migrations create with the models."""

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
    differences = asyncio.run(_compare(url))
    for service, service_differences in differences.items():
        print(f"{service}: {'differs' if service_differences else 'as in the models'}")
        for difference in service_differences:
            print(f"  {difference}")
    if any(differences.values()):
        raise typer.Exit(1)


async def _compare(url: str) -> dict[str, list[Any]]:
    name = f"check_migrations_{os.getpid()}"
    admin = await asyncpg.connect(in_database(url, "postgres"))
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        test_url, password, differences = in_database(url, name), secrets.token_hex(), {}
        for service in SERVICES:
            await provision(test_url, service, password=password, owner_password=password)
            owner_url = database_url(test_url, f"{service}_owner", password)
            asyncpg_owner_url = asyncpg_url(SecretStr(owner_url))
            await upgrade(f"services.{service}", asyncpg_owner_url)
            tables: MetaData = import_module(f"services.{service}.models").Base.metadata
            differences[service] = await drift(asyncpg_owner_url, tables)
        return differences
    finally:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.close()
