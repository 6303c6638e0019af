"""Version 2's databases: addresses and connections of the services and of the schemas' owners."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from sqlalchemy.engine import make_url

from deploy.local.system import SERVICES
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.source import connect

COPIED_INTO = ("organizations", "identity", "vouchers")
"""The services that receive version 1's rows."""

_SEE_EVERYTHING = "SELECT set_config('carnet.scope', 'all', true)"


@dataclass(frozen=True)
class Target:
    """Database addresses of each service's role, each schema's owner and the report role.

    `administrator` is used only to create roles.
    """

    services: Mapping[str, str]
    owners: Mapping[str, str]
    report: str | None = None
    administrator: str | None = None

    def service(self, name: str) -> str:
        """Return the address of a service's role. Raises UpgradeError if it is not set."""
        return _require_address(self.services, name, f"{name.upper()}_DATABASE_URL")

    def owner(self, name: str) -> str:
        """Return the address of a schema's owner. Raises UpgradeError if it is not set."""
        return _require_address(self.owners, name, f"{name.upper()}_OWNER_DATABASE_URL")


def _require_address(addresses: Mapping[str, str], name: str, variable: str) -> str:
    if name not in addresses:
        raise UpgradeError(
            f"{variable} is not set.",
            f"Set it for each of {', '.join(SERVICES)}, or for none to use the local system.",
        )
    return addresses[name]


def driver_url(url: str) -> SecretStr:
    """Return an address with the driver that SQLAlchemy needs."""
    parsed = make_url(url).set(drivername="postgresql+asyncpg")
    return SecretStr(parsed.render_as_string(hide_password=False))


@dataclass(frozen=True)
class Connections:
    """One open connection for each service that receives rows."""

    by_service: Mapping[str, Any]

    def __getitem__(self, service: str) -> Any:
        return self.by_service[service]


@asynccontextmanager
async def service_connections(target: Target) -> AsyncIterator[Connections]:
    """Sign in as each service's own role. Raises UpgradeError."""
    async with _connections({name: target.service(name) for name in COPIED_INTO}) as connections:
        yield connections


@asynccontextmanager
async def owner_connections(target: Target) -> AsyncIterator[Connections]:
    """Sign in as each schema's owner. Raises UpgradeError."""
    async with _connections({name: target.owner(name) for name in COPIED_INTO}) as connections:
        yield connections


@asynccontextmanager
async def _connections(addresses: Mapping[str, str]) -> AsyncIterator[Connections]:
    async with AsyncExitStack() as stack:
        yield Connections(
            {
                name: await stack.enter_async_context(signed_in(url, f"the schema of {name}"))
                for name, url in addresses.items()
            }
        )


@asynccontextmanager
async def signed_in(url: str, database: str) -> AsyncIterator[Any]:
    """Open one connection. Raises UpgradeError."""
    connection = await connect(url, database, "the target's addresses")
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@asynccontextmanager
async def seeing_everything(connection: Any) -> AsyncIterator[None]:
    """Run one transaction that sees the rows of every organization."""
    async with connection.transaction():
        await connection.execute(_SEE_EVERYTHING)
        yield
