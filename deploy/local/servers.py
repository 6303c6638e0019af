"""PostgreSQL and RabbitMQ of one data folder, started together."""

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local import credentials
from deploy.local.errors import StartError
from deploy.local.ports import Ports
from deploy.local.postgres import Postgres
from deploy.local.rabbitmq import Accounts, BrokerPorts, RabbitMQ
from deploy.local.secret_store import SecretStore
from deploy.local.supervisor import Supervisor
from deploy.operate.broker import access
from shared.broker_access import service_user


@asynccontextmanager
async def one_failure() -> AsyncIterator[None]:
    """Replace a group of errors of concurrent tasks by the first of these errors."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group


@dataclass(frozen=True)
class Servers:
    """Addresses of running servers: the superuser's URL, the broker's URL without virtual host."""

    database_url: str
    rabbitmq_url: str


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create and lock a data folder. Raises StartError when another process has locked it."""
    try:
        # Others may pass root's folder: PostgreSQL runs as another user then and is in it.
        mode = 0o700 if os.geteuid() else 0o711
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise StartError(
            f"The data folder {folder} cannot be used: {error.strerror}.",
            "Set CARNET_DATA to a folder you may write to.",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(
                f"Another start uses the data folder {folder}.",
                "Stop it (Ctrl-C where it runs), or set CARNET_DATA to another folder.",
            ) from error
        yield


def postgres_of(
    folder: Path, ports: Ports, store: SecretStore, *, durable: bool = True
) -> Postgres:
    """Describe the data folder's PostgreSQL."""
    password = store.get("postgres_password", lambda: secrets.token_urlsafe(24))
    return Postgres(folder, ports.choose("postgres"), password, durable=durable)


def accounts_of(store: SecretStore) -> Accounts:
    """Return the users of a stack's own broker."""
    return Accounts(_administrator(store), access.users(), credentials.broker_passwords(store))


def accounts_for_tests(store: SecretStore) -> Accounts:
    """Return the users of a broker for tests, which includes the service `sample`.

    All have the administrator's password, and the administrator may publish as each of them, so
    that a test can act as a service that does not run.
    """
    password, users = _administrator(store), [*access.users(), service_user("sample", ["sample"])]
    passwords = {user.name: password for user in users}
    return Accounts(password, users, passwords, tags=("impersonator",))


def _administrator(store: SecretStore) -> str:
    return store.get("rabbitmq_password", lambda: secrets.token_urlsafe(24))


def rabbitmq_of(
    folder: Path,
    ports: Ports,
    store: SecretStore,
    say: Callable[[str], None],
    accounts: Callable[[SecretStore], Accounts] = accounts_of,
) -> RabbitMQ:
    """Describe the data folder's RabbitMQ."""
    broker_ports = BrokerPorts(
        amqp=ports.choose("rabbitmq"),
        distribution=ports.choose("rabbitmq_distribution"),
        epmd=ports.choose("epmd"),
    )
    return RabbitMQ(
        folder,
        broker_ports,
        accounts=accounts(store),
        cookie=store.get("erlang_cookie", lambda: secrets.token_hex(20)),
        say=say,
    )


@asynccontextmanager
async def running_servers(
    folder: Path, say: Callable[[str], None], *, durable: bool = False
) -> AsyncIterator[Servers]:
    """Run both servers for tests. Unless `durable`, they are faster and not safe against a crash.

    Raises StartError.
    """
    with locked(folder):
        supervisor = Supervisor(folder, say)
        await supervisor.end_leftovers()
        ports, store = Ports(folder / "ports.json"), SecretStore(folder / "secrets.json")
        postgres = postgres_of(folder, ports, store, durable=durable)
        rabbitmq = rabbitmq_of(folder, ports, store, say, accounts_for_tests)
        try:
            async with one_failure(), asyncio.TaskGroup() as starting:
                starting.create_task(postgres.start(supervisor))
                starting.create_task(rabbitmq.start(supervisor))
            yield Servers(postgres.url, rabbitmq.url)
        finally:
            await supervisor.stop()
