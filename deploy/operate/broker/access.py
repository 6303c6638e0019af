"""Who signs in to the broker and whose events each may take: one table for every installation."""

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
    "payments": ("organizations", "vouchers"),
    "audit": None,
    GATEWAY: ("identity", "organizations"),
}
"""For each process whose events it may take: None is everybody's. Of a service that is not here a
user could bind its queues to nothing."""


def users() -> list[BrokerUser]:
    """Return every user with its rights."""
    services = [service_user(name, TAKES[name]) for name in SERVICES]
    return [*services, listening_user(GATEWAY, TAKES[GATEWAY] or ()), operator_user(SERVICES)]


def definitions_for(passwords: Mapping[str, str], *, host: str) -> dict[str, list[dict[str, Any]]]:
    """Return what an administrator of a broker imports once: a virtual host and all in it."""
    return definitions(users(), passwords, hosts=[host])


def url_variable(user: str) -> str:
    """Return the name of the variable that holds a user's address of the broker."""
    return f"{user.upper()}_RABBITMQ_URL"


def password_variable(user: str) -> str:
    """Return the name of the variable that holds a user's password."""
    return f"{user.upper()}_RABBITMQ_PASSWORD"


def virtual_host(url: str) -> str:
    """Return the virtual host that an amqp address names; its default is `/`."""
    return unquote(urlsplit(url).path.removeprefix("/")) or "/"


def commands(host: str) -> list[str]:
    """Return the shell commands by which an administrator makes it all by hand.

    The passwords are the shell's variables: nothing secret is printed.
    """
    where = f"--vhost {shlex.quote(host)}"
    # The virtual host / is there from the broker's first start.
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
