"""A whole local system: servers, database and processes, started in the right order."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from deploy.local import credentials
from deploy.local.card_gateway.call import APPLICATION
from deploy.local.card_gateway.program import card_gateway_program
from deploy.local.description import StackDescription, remove_description, write_description
from deploy.local.disk import require_room, watch_room
from deploy.local.errors import StartError
from deploy.local.mail import DEFAULT_SENDER, LocalMailbox, MailServer
from deploy.local.ports import Ports, is_free
from deploy.local.preparation import (
    EMBEDDED_DATABASE,
    Administrator,
    Preparation,
    ensure_database,
)
from deploy.local.rabbitmq import check_broker
from deploy.local.readiness import wait_until_ready
from deploy.local.secret_store import SecretStore
from deploy.local.servers import locked, one_failure, postgres_of, rabbitmq_of
from deploy.local.settings import (
    DEFAULT_ADMIN_EMAIL,
    LOCAL_PUBLISHABLE_KEY,
    LOCAL_STRIPE_KEY,
    StackSettings,
)
from deploy.local.settings_check import check_settings
from deploy.local.supervisor import Supervisor
from deploy.local.system import SERVICES, Instance, System, public_keys
from deploy.operate.broker import access, management
from shared.broker_access import broker_url
from shared.publishers import OPERATOR
from shared.text import fold

READY_SECONDS = 120.0
SECRETS_FILE = "secrets.json"
SEALS_FOLDER = "seals"
ADMIN_FILE = "admin.json"
WEBHOOK_PATH = "/api/payments/webhooks/stripe"
CONNECT_WEBHOOK_PATH = f"{WEBHOOK_PATH}/connect"

Environments = Mapping[str, Mapping[str, str]]
"""Environment variables, by the name of a process or of a service."""


class Stack:
    """A running system, created by `running_stack`."""

    def __init__(
        self,
        settings: StackSettings,
        say: Callable[[str], None],
        extra: Environments,
    ) -> None:
        self.settings = settings
        self._folder = settings.data
        self._say = say
        self.supervisor = Supervisor(self._folder, say, self._describe)
        store = SecretStore(self._folder / SECRETS_FILE)
        ports = Ports(self._folder / "ports.json")
        self.postgres = None if settings.database_url else postgres_of(self._folder, ports, store)
        self.rabbitmq = (
            None if settings.rabbitmq_url else rabbitmq_of(self._folder, ports, store, say)
        )
        self.admin_email = settings.admin_email
        self.admin_password = credentials.admin_password(store, settings)
        self._broker_passwords = credentials.broker_passwords(store)
        self.administrator: Administrator | None = None  # until the database is prepared
        self._card_port = None if settings.stripe else ports.choose("card-gateway")
        self.mailbox = (
            None
            if settings.smtp_url
            else LocalMailbox(ports.choose("mailbox smtp"), ports.choose("mailbox"))
        )
        self.system = _system(
            settings,
            store,
            database_url=(
                self.postgres.url_of(EMBEDDED_DATABASE)
                if self.postgres
                else settings.database_url or ""
            ),
            rabbitmq_url=(
                f"{self.rabbitmq.url}/" if self.rabbitmq else settings.rabbitmq_url or ""
            ),
            broker_passwords=self._broker_passwords,
            card_port=self._card_port,
            mailbox=self.mailbox,
            instances=_instances(settings, ports),
            extra=extra,
        )

    @property
    def address(self) -> str:
        """The address of the gateway, which clients use."""
        return self.system.apis("gateway")[0].url

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs."""
        return self._folder / "logs"

    def pids(self) -> dict[str, int]:
        """Return the process ids of everything that runs, by name."""
        return self.supervisor.pids()

    def starts(self, name: str) -> int:
        """Return how many times a process was started."""
        return self.supervisor.starts(name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process."""
        self.supervisor.kill(name, number)

    async def wait_for_start(self, name: str, number: int, *, seconds: float = 60) -> None:
        """Wait until a process was started `number` times. Raises TimeoutError."""
        await self.supervisor.wait_for_start(name, number, seconds=seconds)

    async def wait_until_ready(self, *names: str, seconds: float = READY_SECONDS) -> None:
        """Wait until the named instances are ready, or all if none is named. Raises StartError."""
        instances = [i for i in self.system.instances if not names or i.name in names]
        async with one_failure():
            await wait_until_ready(instances, self.supervisor, seconds=seconds)

    async def start(self) -> None:
        """Start everything and wait until it is ready. Raises StartError."""
        async with one_failure(), asyncio.TaskGroup() as group:
            group.create_task(self._start_broker())
            group.create_task(self._start_card_gateway())
            if self.mailbox is not None:
                group.create_task(self.supervisor.start(self.mailbox.program(self._folder)))
            group.create_task(self._start_processes())
        await self.wait_until_ready()

    async def stop(self) -> None:
        """Stop everything in order."""
        await self.supervisor.stop()
        remove_description(self._folder)

    async def _start_broker(self) -> None:
        if self.rabbitmq is not None:
            await self.rabbitmq.start(self.supervisor)
            return
        if self.settings.rabbitmq_management_url:
            await management.provision(
                self.settings.rabbitmq_management_url,
                self._broker_passwords,
                host=access.virtual_host(self.system.rabbitmq_url),
            )
        for url in self.system.broker_urls.values():
            await check_broker(url)

    async def _start_card_gateway(self) -> None:
        if self._card_port is None:
            return
        program = card_gateway_program(
            self._folder,
            self._card_port,
            webhook_url=f"{self.address}{WEBHOOK_PATH}",
            webhook_secret=self.system.stripe_webhook_secret,
            connect_url=f"{self.address}{CONNECT_WEBHOOK_PATH}",
            connect_secret=self.system.stripe_connect_webhook_secret,
        )
        await self.supervisor.start(program)

    async def _start_processes(self) -> None:
        """Start our own processes when the database is ready; they wait for the broker."""
        if self.postgres is not None:
            await self.postgres.start(self.supervisor)
        await ensure_database(self.system.database_url)
        admin = (self.admin_email, self.admin_password)
        preparation = Preparation(self._folder, self.system, admin, self.supervisor, self._say)
        self._apply(await preparation.run())
        await self.supervisor.start_all(self.system.program(i) for i in self.system.instances)

    def _apply(self, administrator: Administrator) -> None:
        """Store who the first administrator is, and report settings that differ from that."""
        self.administrator = administrator
        if fold(self.admin_email) != fold(administrator.email):
            if self.settings.admin_email != DEFAULT_ADMIN_EMAIL:
                self._say(
                    f"CARNET_ADMIN_EMAIL is {self.admin_email}, but the first administrator of "
                    f"this installation is {administrator.email}: it is created only once, and "
                    "nothing was changed"
                )
            self.admin_email = administrator.email
        if not administrator.password_matches:
            if self.settings.admin_password is not None:
                self._say(
                    f"CARNET_ADMIN_PASSWORD is not the password of {administrator.email}: it is "
                    "used only when the administrator is created, and nothing was changed"
                )
        elif self.settings.admin_password is None:
            file = self._folder / ADMIN_FILE
            credentials.store_admin(file, self.admin_email, self.admin_password)

    def _describe(self) -> None:
        """Write the description of this stack for other commands and tests."""
        system, administrator = self.system, self.administrator
        is_known = administrator is None or administrator.password_matches
        description: StackDescription = {
            "address": self.address,
            "documentation": f"{self.address}/docs",
            "admin": {
                "email": self.admin_email,
                "password": self.admin_password if is_known else None,
            },
            "logs": str(self.logs),
            "database_url": system.database_url,
            "service_database_urls": {name: system.role_url(name) for name in SERVICES},
            "mailbox": self.mailbox.address if self.mailbox else None,
            "operator_rabbitmq_url": system.broker_urls[OPERATOR],
            "stripe": {
                "api_base": system.stripe_api_base,
                "api_key": system.stripe_api_key,
                "webhook_secret": system.stripe_webhook_secret,
            },
            "processes": {
                i.name: {"port": i.port, "operations_port": i.operations_port}
                for i in system.instances
            },
            "pids": self.pids(),
        }
        write_description(self._folder, description)


@asynccontextmanager
async def running_stack(
    settings: StackSettings,
    *,
    say: Callable[[str], None] = lambda _: None,
    extra: Environments | None = None,
    arrange: Callable[[System], System] = lambda system: system,
) -> AsyncIterator[Stack]:
    """Run a stack in the settings' data folder and stop it at the end, whatever happens.

    With port 0 any free port is used. `extra` adds environment variables to one process by its
    name, or to all processes of a service by the service's name. `arrange` changes the system
    before it starts. Raises StartError; then no process is left.
    """
    with locked(settings.data):
        require_room(settings.data)
        await Supervisor(settings.data, say).end_leftovers()
        stack = Stack(settings, say, extra or {})
        port = stack.system.apis("gateway")[0].port
        if port is not None and not is_free(port):
            raise StartError(
                f"Port {port} is used by another program, or you may not use it.",
                "Stop that program, or choose another port: CARNET_PORT=8081 make run",
            )
        await check_settings(stack.system)
        stack.system = arrange(stack.system)
        try:
            await stack.start()
            watching = asyncio.create_task(watch_room(settings.data, say), name="room on the disk")
            try:
                yield stack
            finally:
                watching.cancel()
        finally:
            await stack.stop()


def _instances(settings: StackSettings, ports: Ports) -> list[Instance]:
    """List our processes with their ports; the second of a kind is named `vouchers-api-2`."""
    instances = []
    for service in SERVICES:
        for number in range(1, settings.instances.get(service, 1) + 1):
            suffix = "" if number == 1 else f"-{number}"
            api = Instance(
                name=f"{service}-api{suffix}",
                module=f"services.{service}.app",
                owner=service,
                port=ports.choose(f"{service}-api{suffix}"),
                operations_port=ports.choose(f"{service}-api{suffix} operations"),
            )
            worker = replace(
                api,
                name=f"{service}-worker{suffix}",
                module=f"services.{service}.worker",
                port=None,
                operations_port=ports.choose(f"{service}-worker{suffix} operations"),
            )
            instances += [api, worker]
    gateway = Instance(
        name="gateway",
        module="gateway.app",
        owner="gateway",
        port=settings.port or ports.choose("gateway"),
        operations_port=ports.choose("gateway operations"),
    )
    return [*instances, gateway]


def _system(
    settings: StackSettings,
    store: SecretStore,
    *,
    database_url: str,
    rabbitmq_url: str,
    broker_passwords: Mapping[str, str],
    card_port: int | None,
    mailbox: LocalMailbox | None,
    instances: Sequence[Instance],
    extra: Environments,
) -> System:
    secrets = credentials.service_credentials(store)
    gateway_key = credentials.gateway_key(store)
    stripe = settings.stripe
    return System(
        database_url=database_url,
        rabbitmq_url=rabbitmq_url,
        broker_urls=settings.rabbitmq_urls
        or {
            user: broker_url(rabbitmq_url, user, password)
            for user, password in broker_passwords.items()
        },
        credentials=secrets,
        gateway_key=gateway_key,
        internal_jwks=public_keys([*(s.internal_key for s in secrets.values()), gateway_key]),
        signing_secret=credentials.signing_secret(store),
        seals=str(settings.data / SEALS_FOLDER),
        stripe_api_base=stripe.api_base if stripe else f"http://127.0.0.1:{card_port}",
        stripe_api_key=stripe.api_key if stripe else LOCAL_STRIPE_KEY,
        stripe_webhook_secret=credentials.webhook_secret(store, settings),
        stripe_connect_webhook_secret=credentials.connect_webhook_secret(store, settings),
        # With an account of the user's own these are in the variables PAYMENTS_STRIPE_….
        stripe_publishable_key=None if stripe else LOCAL_PUBLISHABLE_KEY,
        stripe_client_id=None if stripe else APPLICATION,
        mail_server=MailServer(
            smtp_url=mailbox.smtp_url if mailbox else settings.smtp_url or "",
            mail_from=settings.mail_from or DEFAULT_SENDER,
            public_url=settings.public_url or instances[-1].url,
        ),
        mail_secrets=credentials.mail_secrets(store),
        instances=tuple(instances),
        extra=extra,
    )
