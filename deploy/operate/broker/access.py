"""The broker's users, and whose events each may consume: one table for every installation."""

import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from deploy.docker.environment import BROKER_USERS, SERVICES
from shared.broker_access import (
    BrokerUser,
    definitions,
    listening_user,
    operator_user,
    service_user,
)

GATEWAY = "gateway"
USERS = BROKER_USERS
MANAGEMENT_VARIABLE = "CARNET_RABBITMQ_MANAGEMENT_URL"

TAKES: Mapping[str, tuple[str, ...] | None] = {
    "identity": ("organizations",),
    "organizations": ("identity",),
    "vouchers": ("identity", "organizations", "payments"),
    "payments": ("identity", "organizations", "vouchers"),
    "audit": None,
    GATEWAY: ("identity", "organizations"),
}
"""The services whose events a process may consume; None means all. The user of a process cannot
bind its queues to events of other services."""


def users() -> list[BrokerUser]:
    """Return every user with its rights."""
    services = [service_user(name, TAKES[name]) for name in SERVICES]
    return [*services, listening_user(GATEWAY, TAKES[GATEWAY] or ()), operator_user(SERVICES)]


def definitions_for(passwords: Mapping[str, str], *, host: str) -> dict[str, list[dict[str, Any]]]:
    """Return the definitions of a virtual host and its content, for an administrator to import."""
    return definitions(users(), passwords, hosts=[host])


def url_variable(user: str) -> str:
    """Return the name of the variable with the broker's address for a user."""
    return f"{user.upper()}_RABBITMQ_URL"


def password_variable(user: str) -> str:
    """Return the name of the variable with a user's password."""
    return f"{user.upper()}_RABBITMQ_PASSWORD"


def virtual_host(url: str) -> str:
    """Return the virtual host of an AMQP address; the default is `/`."""
    return unquote(urlsplit(url).path.removeprefix("/")) or "/"


def commands(host: str) -> list[str]:
    """Return the shell commands with which an administrator creates the definitions by hand.

    The commands take the passwords from variables of the shell, so they contain no secret.
    """
    where = f"--vhost {shlex.quote(host)}"
    # The virtual host / exists in every broker.
    lines = [] if host == "/" else [f"rabbitmqctl add_vhost {shlex.quote(host)}"]
    lines += [
        f"rabbitmqadmin {where} declare exchange name={exchange['name']} type={exchange['type']}"
        " durable=true"
        for exchange in definitions([], {}, hosts=[host])["exchanges"]
    ]
    for user in users():
        lines += [
            f'rabbitmqctl add_user {user.name} "${password_variable(user.name)}"',
            f"rabbitmqctl set_permissions {where} {user.name}"
            f" '{user.configure}' '{user.write}' '{user.read}'",
            f"rabbitmqctl set_topic_permissions {where} {user.name} carnet"
            f" '{user.publishes}' '{user.binds}'",
        ]
    return lines
