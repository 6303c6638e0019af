"""The target without explicit addresses: the system of the data folder, running or not."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.console import say
from deploy.local.credentials import service_credentials
from deploy.local.description import StackDescription, find_description
from deploy.local.ports import Ports
from deploy.local.preparation import EMBEDDED_DATABASE, ensure_database
from deploy.local.processes import Identity
from deploy.local.secret_store import SecretStore
from deploy.local.servers import locked, postgres_of
from deploy.local.settings import StackSettings
from deploy.local.supervisor import Supervisor
from deploy.local.system import SERVICES
from deploy.upgrade.run.report_role import ROLE
from deploy.upgrade.targets import Target
from shared.provisioning import database_url, provision


@asynccontextmanager
async def local_target(settings: StackSettings) -> AsyncIterator[Target]:
    """Yield the data folder's system as a target; start its PostgreSQL if it does not run.

    Roles and schemas are created as by `make run`. Raises StartError.
    """
    running = _description_of(settings.data)
    if running is not None:
        yield await _prepare(running["database_url"], settings.data)
        return
    with locked(settings.data):
        if settings.database_url is not None:
            yield await _prepare(settings.database_url, settings.data)
            return
        async with _embedded_postgres(settings.data) as url:
            yield await _prepare(url, settings.data)


def running_target(settings: StackSettings) -> Target | None:
    """Return the system that runs in the data folder, or None."""
    running = _description_of(settings.data)
    if running is None:
        return None
    return _target(running["database_url"], _secrets(settings.data))


def _description_of(folder: Path) -> StackDescription | None:
    """Return the description of the system that runs in a folder, or None."""
    description = find_description(folder)
    if description is None or not any(map(Identity.of, description["pids"].values())):
        return None
    return description


@asynccontextmanager
async def _embedded_postgres(folder: Path) -> AsyncIterator[str]:
    """Run only the folder's PostgreSQL; yield the administrator's URL."""
    supervisor = Supervisor(folder, say)
    await supervisor.end_leftovers()
    postgres = postgres_of(folder, Ports(folder / "ports.json"), _secrets(folder))
    try:
        await postgres.start(supervisor)
        yield postgres.url_of(EMBEDDED_DATABASE)
    finally:
        await supervisor.stop()


def _secrets(folder: Path) -> SecretStore:
    return SecretStore(folder / "secrets.json")


async def _prepare(administrator: str, folder: Path) -> Target:
    """Create the database, its roles and schemas if they are missing."""
    store = _secrets(folder)
    await ensure_database(administrator)
    for service, secret in service_credentials(store).items():
        await provision(
            administrator,
            service,
            password=secret.password,
            owner_password=secret.owner_password,
        )
    return _target(administrator, store)


def _target(administrator: str, store: SecretStore) -> Target:
    credentials = service_credentials(store)
    report_password = store.get("report_password", lambda: secrets.token_urlsafe(24))
    return Target(
        services={
            name: database_url(administrator, name, credentials[name].password) for name in SERVICES
        },
        owners={
            name: database_url(administrator, f"{name}_owner", credentials[name].owner_password)
            for name in SERVICES
        },
        report=database_url(administrator, ROLE, report_password),
        administrator=administrator,
    )
