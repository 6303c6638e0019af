"""The map of the system: which processes exist, and what each is told by its environment."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.local.supervisor import Program, own_environment
from shared.provisioning import database_url

SERVICES = ("identity", "organizations", "vouchers", "payments", "audit")
CHECKOUT = Path(__file__).resolve().parents[2]
TOKEN_ISSUER = "carnet"  # noqa: S105
TOKEN_AUDIENCE = "carnet-api"  # noqa: S105

# The few synchronous calls between services, and the variable that holds the upstream's address.
UPSTREAMS: Mapping[str, tuple[str, ...]] = {
    "identity": ("organizations",),
    "organizations": ("identity",),
    "vouchers": ("payments", "organizations", "identity"),
    "payments": (),
    "audit": (),
}
# Of our own environment, what a process needs to reach the outside world.
_NETWORK_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Instance:
    """One process of ours: its address, and that of its operators' port."""

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
        """The port that tells whether it is ready: a worker has the operators' port alone."""
        return self.port or self.operations_port


@dataclass(frozen=True)
class Credentials:
    """Secrets of one service: its database passwords, the key that signs its own calls, and what
    repeated requests are recognized by."""

    password: str
    owner_password: str
    internal_key: str
    idempotency_secret: str


@dataclass(frozen=True)
class System:
    """Everything the processes' environments are made from."""

    database_url: str
    rabbitmq_url: str
    """An administrator's, or the operator's where the broker is not ours; no process gets it."""
    broker_urls: Mapping[str, str]
    """The broker's address for each of its users."""
    credentials: Mapping[str, Credentials]
    gateway_key: str
    internal_jwks: str
    signing_secret: str
    seals: str
    stripe_api_base: str
    stripe_api_key: str
    stripe_webhook_secret: str
    instances: tuple[Instance, ...]
    extra: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    namespaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Where instances run that do not share our own network, by their names."""

    def apis(self, service: str) -> list[Instance]:
        """Return the API processes of a service."""
        return [i for i in self.instances if i.owner == service and i.port is not None]

    def service_url(self, service: str) -> str:
        """Return the address of a service's first API process."""
        return self.apis(service)[0].url

    def service_urls(self, service: str) -> str:
        """Return the addresses of all its API processes, as whoever calls it is told them."""
        return ",".join(api.url for api in self.apis(service))

    def role_url(self, service: str, *, owner: bool = False) -> str:
        """Return the database address for the service's role, or for its schema's owner."""
        secret = self.credentials[service]
        role = f"{service}_owner" if owner else service
        password = secret.owner_password if owner else secret.password
        return database_url(self.database_url, role, password)

    def program(self, instance: Instance) -> Program:
        """Describe how an instance runs."""
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
        """Describe a process that runs one of our modules."""
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
        own = self._gateway() if instance.owner == "gateway" else self.service(instance.owner)
        prefix = instance.owner.upper()
        return {
            **_local_addresses(instance.owner),
            **_passed_on(prefix),
            **own,
            f"{prefix}_HOST": "127.0.0.1",
            f"{prefix}_PORT": str(instance.port or 0),
            f"{prefix}_OPERATIONS_PORT": str(instance.operations_port),
            **self.extra.get(instance.owner, {}),
            **self.extra.get(instance.name, {}),
        }

    def one_off(self, service: str, **more: str) -> dict[str, str]:
        """Return the environment of a command that runs once, as migrate, which owns the schema."""
        owner = {f"{service.upper()}_OWNER_DATABASE_URL": self.role_url(service, owner=True)}
        return {
            **_local_addresses(service),
            **_passed_on(service.upper()),
            **self.service(service),
            **owner,
            **more,
        }

    def service(self, service: str) -> dict[str, str]:
        """Return what every process of a service is told."""
        values = {
            **self._tokens(),
            "DATABASE_URL": self.role_url(service),
            "RABBITMQ_URL": self.broker_urls[service],
            "INTERNAL_KEY": self.credentials[service].internal_key,
            "INTERNAL_JWKS": self.internal_jwks,
            "IDEMPOTENCY_SECRET": self.credentials[service].idempotency_secret,
            **{f"{name.upper()}_URL": self.service_urls(name) for name in UPSTREAMS[service]},
            **self._special(service),
        }
        return {f"{service.upper()}_{name}": value for name, value in values.items()}

    def _special(self, service: str) -> dict[str, str]:
        if service == "identity":
            return {"SIGNING_SECRET": self.signing_secret}
        if service == "audit":
            return {"SEALS": self.seals}
        if service == "payments":
            return {
                "STRIPE_API_BASE": self.stripe_api_base,
                "STRIPE_API_KEY": self.stripe_api_key,
                "STRIPE_WEBHOOK_SECRET": self.stripe_webhook_secret,
            }
        return {}

    def _gateway(self) -> dict[str, str]:
        upstreams = {f"{name.upper()}_URL": self.service_urls(name) for name in SERVICES}
        values = {
            **self._tokens(),
            "RABBITMQ_URL": self.broker_urls["gateway"],
            "INTERNAL_KEY": self.gateway_key,
            **upstreams,
        }
        return {f"GATEWAY_{name}": value for name, value in values.items()}

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
    """Let e-mail addresses such as admin@localhost be used here, unless the user says otherwise."""
    takes_addresses = owner in ("identity", "organizations")
    return {f"{owner.upper()}_LOCAL_ADDRESSES": "true"} if takes_addresses else {}


def _passed_on(prefix: str) -> dict[str, str]:
    """Return what a process may see of our environment: its own variables, as its LOG_LEVEL."""
    own = {name: value for name, value in os.environ.items() if name.startswith(f"{prefix}_")}
    return {**own_environment(*_NETWORK_VARIABLES), **own, "PYTHONUNBUFFERED": "1"}
