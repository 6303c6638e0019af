"""The processes of a local system and their environments."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.local.mail import MailServer
from deploy.local.supervisor import Program, own_environment
from shared.provisioning import database_url

SERVICES = ("identity", "organizations", "vouchers", "payments", "audit")
CHECKOUT = Path(__file__).resolve().parents[2]
TOKEN_ISSUER = "carnet"  # noqa: S105
TOKEN_AUDIENCE = "carnet-api"  # noqa: S105

# Which services a service calls. A variable has the address of each.
SHARED_VARIABLES: Mapping[str, tuple[str, ...]] = {"vouchers": ("PAYMENTS_ACCOUNTS",)}
"""Settings of another service that a service reads as well, so that one value decides."""
UPSTREAMS: Mapping[str, tuple[str, ...]] = {
    "identity": ("organizations",),
    "organizations": ("identity",),
    "vouchers": ("payments", "organizations", "identity"),
    "payments": (),
    "audit": (),
}
# The variables of our environment with which a process reaches the network.
_NETWORK_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Instance:
    """One of our processes and its ports."""

    name: str
    module: str
    owner: str  # the service, or "gateway"
    port: int | None
    operations_port: int

    @property
    def url(self) -> str:
        """The address of an API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def readiness_port(self) -> int:
        """The port for readiness checks: a worker has only the operators' port."""
        return self.port or self.operations_port


@dataclass(frozen=True)
class Credentials:
    """Secrets of one service.

    The passwords of its role and of its schema's owner, the key that signs its calls of other
    services, and the secret that identifies repeated requests.
    """

    password: str
    owner_password: str
    internal_key: str
    idempotency_secret: str


@dataclass(frozen=True)
class System:
    """All values from which the environments of the processes are made."""

    database_url: str
    rabbitmq_url: str
    """The administrator's address, or the operator's for a broker of its own; no process has it."""
    broker_urls: Mapping[str, str]
    """The broker's address for each user."""
    credentials: Mapping[str, Credentials]
    gateway_key: str
    internal_jwks: str
    signing_secret: str
    seals: str
    stripe_api_base: str
    stripe_api_key: str
    stripe_webhook_secret: str
    mail_server: MailServer
    mail_secrets: Mapping[str, str]
    """The secret that encrypts the messages of each service that sends mail."""
    instances: tuple[Instance, ...]
    stripe_connect_webhook_secret: str | None = None
    stripe_publishable_key: str | None = None
    stripe_client_id: str | None = None
    extra: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    namespaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The network namespaces of instances that do not run in ours, by their names."""

    def apis(self, service: str) -> list[Instance]:
        """Return the API processes of a service."""
        return [i for i in self.instances if i.owner == service and i.port is not None]

    def service_url(self, service: str) -> str:
        """Return the address of a service's first API process."""
        return self.apis(service)[0].url

    def service_urls(self, service: str) -> str:
        """Return the addresses of all API processes of a service, separated by commas."""
        return ",".join(api.url for api in self.apis(service))

    def role_url(self, service: str, *, owner: bool = False) -> str:
        """Return the database address of the service's role, or of its schema's owner."""
        secret = self.credentials[service]
        role = f"{service}_owner" if owner else service
        password = secret.owner_password if owner else secret.password
        return database_url(self.database_url, role, password)

    def program(self, instance: Instance) -> Program:
        """Return the program of an instance."""
        program = self.own_program(
            instance.name,
            instance.module,
            self.environment(instance),
            stage=2 if instance.owner == "gateway" else 1,
        )
        return replace(program, namespaces=self.namespaces.get(instance.name, ()))

    @staticmethod
    def own_program(
        name: str, module: str, environment: Mapping[str, str], *, stage: int = 1
    ) -> Program:
        """Return a program that runs one of our modules."""
        return Program(
            name=name,
            command=(sys.executable, "-m", module),
            environment=environment,
            directory=CHECKOUT,
            module=module,
            stage=stage,
        )

    def environment(self, instance: Instance) -> dict[str, str]:
        """Return the whole environment of an instance."""
        prefix = instance.owner.upper()
        if instance.owner == "gateway":
            values = {
                **self._tokens(),
                "RABBITMQ_URL": self.broker_urls["gateway"],
                "INTERNAL_KEY": self.gateway_key,
                **{f"{name.upper()}_URL": self.service_urls(name) for name in SERVICES},
            }
            own = {f"GATEWAY_{name}": value for name, value in values.items()}
        else:
            own = self.service(instance.owner)
        return {
            **_local_addresses(instance.owner),
            **_local_sign_in(instance.owner),
            **_passed_on(instance.owner),
            **own,
            f"{prefix}_HOST": "127.0.0.1",
            f"{prefix}_PORT": str(instance.port or 0),
            f"{prefix}_OPERATIONS_PORT": str(instance.operations_port),
            **self.extra.get(instance.owner, {}),
            **self.extra.get(instance.name, {}),
        }

    def one_off(self, service: str, **more: str) -> dict[str, str]:
        """Return the environment of a command that runs once, as migrate, with the owner's role."""
        owner = {f"{service.upper()}_OWNER_DATABASE_URL": self.role_url(service, owner=True)}
        return {
            **_local_addresses(service),
            **_local_sign_in(service),
            **_passed_on(service),
            **self.service(service),
            **owner,
            **more,
        }

    def service(self, service: str) -> dict[str, str]:
        """Return the variables that every process of a service has."""
        special = {
            "identity": {"SIGNING_SECRET": self.signing_secret},
            "audit": {"SEALS": self.seals},
            "payments": self._stripe(),
        }
        secret = self.mail_secrets.get(service)
        values = {
            **self._tokens(),
            **(self.mail_server.variables(secret) if secret else {}),
            "DATABASE_URL": self.role_url(service),
            "RABBITMQ_URL": self.broker_urls[service],
            "INTERNAL_KEY": self.credentials[service].internal_key,
            "INTERNAL_JWKS": self.internal_jwks,
            "IDEMPOTENCY_SECRET": self.credentials[service].idempotency_secret,
            **{f"{name.upper()}_URL": self.service_urls(name) for name in UPSTREAMS[service]},
            **special.get(service, {}),
        }
        return {f"{service.upper()}_{name}": value for name, value in values.items()}

    def _stripe(self) -> dict[str, str]:
        values = {
            "API_BASE": self.stripe_api_base,
            "API_KEY": self.stripe_api_key,
            "WEBHOOK_SECRET": self.stripe_webhook_secret,
            "CONNECT_WEBHOOK_SECRET": self.stripe_connect_webhook_secret,
            "PUBLISHABLE_KEY": self.stripe_publishable_key,
            "CLIENT_ID": self.stripe_client_id,
        }
        return {f"STRIPE_{name}": value for name, value in values.items() if value is not None}

    def _tokens(self) -> dict[str, str]:
        return {
            "JWKS_URL": f"{self.service_url('identity')}/.well-known/jwks.json",
            "TOKEN_ISSUER": TOKEN_ISSUER,
            "TOKEN_AUDIENCE": TOKEN_AUDIENCE,
        }


def public_keys(private_keys: Iterable[str]) -> str:
    """Return the JWKS that verifies calls signed with these private keys, each a JWK."""
    private = {"d"}
    keys = [json.loads(key) for key in private_keys]
    public = [{name: key[name] for name in key.keys() - private} for key in keys]
    return json.dumps({"keys": public}, sort_keys=True)


def _local_addresses(owner: str) -> dict[str, str]:
    """Allow e-mail addresses such as admin@localhost, unless the user's environment forbids it."""
    reads_addresses = owner in ("identity", "organizations")
    return {f"{owner.upper()}_LOCAL_ADDRESSES": "true"} if reads_addresses else {}


def _local_sign_in(owner: str) -> dict[str, str]:
    """Let administrators sign in without a second factor, unless the environment forbids it."""
    return {"IDENTITY_ADMINS_NEED_SECOND_FACTOR": "false"} if owner == "identity" else {}


def _passed_on(owner: str) -> dict[str, str]:
    """Return the part of our environment that a process may see: the variables that it reads."""
    prefix, others = f"{owner.upper()}_", SHARED_VARIABLES.get(owner, ())
    own = {n: value for n, value in os.environ.items() if n.startswith(prefix) or n in others}
    return {**own_environment(*_NETWORK_VARIABLES), **own, "PYTHONUNBUFFERED": "1"}
