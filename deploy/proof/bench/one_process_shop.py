"""Runs the program in one process, with the durable PostgreSQL of the stack that it is compared to.

The stack does not run at the same time.
"""

import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from deploy.local.ports import Ports
from deploy.local.secret_store import SecretStore
from deploy.local.servers import locked, postgres_of
from deploy.local.supervisor import Supervisor
from deploy.proof.bench.card_gateways import running_card_double
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.one_process import OFFER_ID, sign_token
from deploy.proof.bench.shop import Shop
from shared.provisioning import database_url, in_database
from shared.settings import asyncpg_url

ROLE = "one_process"
"""The database, and the role that owns it."""


@dataclass(frozen=True)
class DatabaseServer:
    """A running PostgreSQL: the superuser's URL, its process and its log."""

    url: str
    pid: int
    log: Path


@dataclass(frozen=True)
class OneProcessShop(Shop):
    """The running program. All its work is finished when it answers."""

    secret: str
    processes: Mapping[str, int]

    async def token(self) -> str:
        """Return a token of a client."""
        return sign_token(1, self.secret)

    def pids(self) -> Mapping[str, int]:
        """Return the process ids of the program and of what it calls."""
        return self.processes

    async def wait_until_drained(self) -> None:
        """Return at once."""

    async def messages(self) -> dict[str, float]:
        """Return zeros."""
        return {"published_messages": 0.0, "delivered_messages": 0.0}


@asynccontextmanager
async def running_one_process(environment: BenchEnvironment) -> AsyncIterator[OneProcessShop]:
    """Run the program with the stack's PostgreSQL on all cores."""
    with environment.on_all_cores():
        async with (
            _running_postgres(environment) as server,
            running_program(environment, server) as shop,
        ):
            yield shop


@asynccontextmanager
async def running_program(
    environment: BenchEnvironment, server: DatabaseServer
) -> AsyncIterator[OneProcessShop]:
    """Run the program with an empty database on a server, and with a card gateway."""
    password, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
    await _create_database(server.url, password)
    port = environment.ports.choose("one-process")
    address = f"http://127.0.0.1:{port}"
    async with running_card_double(environment) as cards:
        variables = {
            "ONE_PROCESS_DATABASE_URL": asyncpg_url(
                SecretStr(database_url(in_database(server.url, ROLE), ROLE, password))
            ).get_secret_value(),
            "ONE_PROCESS_CARD_GATEWAY": cards.url,
            "ONE_PROCESS_SECRET": secret,
        }
        async with environment.process(
            "one-process",
            (sys.executable, "-m", "deploy.proof.bench.one_process", "--port", str(port)),
            variables,
            tested=False,
            ready=f"{address}/health/ready",
        ) as process:
            pids = {"one-process": process.pid, "postgres": server.pid, "card-gateway": cards.pid}
            yield OneProcessShop(
                environment=environment,
                address=address,
                voucher_type_id=OFFER_ID,
                database_url=server.url,
                database_log=server.log,
                secret=secret,
                processes=pids,
            )


@asynccontextmanager
async def _running_postgres(environment: BenchEnvironment) -> AsyncIterator[DatabaseServer]:
    folder = environment.folder / "stack"
    with locked(folder):
        supervisor = Supervisor(folder, environment.say)
        await supervisor.end_leftovers()
        ports, store = Ports(folder / "ports.json"), SecretStore(folder / "secrets.json")
        postgres = postgres_of(folder, ports, store)
        try:
            await postgres.start(supervisor)
            pid, log = supervisor.pids()["postgres"], supervisor.log_of("postgres")
            yield DatabaseServer(postgres.url, pid, log)
        finally:
            await supervisor.stop()


async def _create_database(url: str, password: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {ROLE} WITH (FORCE)")
        await connection.execute(f"DROP ROLE IF EXISTS {ROLE}")
        await connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'")
        await connection.execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}")
    finally:
        await connection.close()
