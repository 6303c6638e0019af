"""The users of the broker and what each may do. Those of the database are in `provisioning`.

RabbitMQ's permissions are regular expressions over the names of exchanges and queues: configure
(declare, delete), write (publish; bind a queue), read (consume; bind to an exchange). For the topic
exchange there are further ones over routing keys: https://www.rabbitmq.com/docs/access-control.
"""

import base64
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from shared.bus import DEAD_SUFFIX, EXCHANGE, LISTENERS_EXCHANGE, QUEUES_SUFFIX
from shared.publishers import OPERATOR

NOTHING = "^$"
EVERYTHING = ".*"


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """A user without tags, and its permissions in one virtual host."""

    name: str
    configure: str
    write: str
    read: str
    publishes: str = NOTHING
    """Routing keys with which it may publish to the exchange of events."""
    binds: str = NOTHING
    """Routing keys by which it may bind its queues to the exchange of events."""


def broker_url(url: str, user: str, password: str | None = None) -> str:
    """Return the broker's address with which another user signs in.

    Without `password` the one in `url` is used: all users of the tests' broker have the same.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    secret = unquote(parts.password or "") if password is None else password
    return parts._replace(netloc=f"{user}:{quote(secret, safe='')}@{host}").geturl()


def service_user(name: str, takes: Collection[str] | None) -> BrokerUser:
    """Return a service's user: it publishes its own events, and owns queues and an exchange.

    `takes` names the services whose events it may receive; None means those of every service.
    """
    own = f"{re.escape(name)}\\."
    resources = f"^({re.escape(EXCHANGE)}|{re.escape(LISTENERS_EXCHANGE)})$|^{own}"
    return BrokerUser(name, f"^{own}", resources, resources, f"^{own}", _keys_of(takes))


def listening_user(name: str, takes: Collection[str]) -> BrokerUser:
    """Return the user of a process that receives events and publishes none."""
    own = f"^{re.escape(name)}\\."
    return BrokerUser(name, own, own, f"^{re.escape(EXCHANGE)}$|{own}", binds=_keys_of(takes))


def operator_user(services: Iterable[str]) -> BrokerUser:
    """Return the user that reads dead letters and sends them back to their queues."""
    exchanges = "|".join(re.escape(service) for service in services)
    return BrokerUser(
        OPERATOR,
        NOTHING,
        f"^({exchanges}){re.escape(QUEUES_SUFFIX)}$",
        f"{re.escape(DEAD_SUFFIX)}$",
    )


def _keys_of(services: Collection[str] | None) -> str:
    if services is None:
        return EVERYTHING
    if not services:
        return NOTHING
    return f"^({'|'.join(re.escape(service) for service in sorted(services))})\\."


def definitions(
    users: Sequence[BrokerUser], passwords: Mapping[str, str], *, hosts: Sequence[str] = ("/",)
) -> dict[str, list[dict[str, Any]]]:
    """Return virtual hosts, users, permissions and exchanges in RabbitMQ's import format.

    An import changes what it names and deletes nothing, so it may be repeated. Passwords are
    stored as salted hashes. https://www.rabbitmq.com/docs/definitions
    """
    return {
        "vhosts": [{"name": host} for host in hosts],
        "users": [account(user.name, passwords[user.name]) for user in users],
        "permissions": [
            {
                "user": user.name,
                "vhost": host,
                "configure": user.configure,
                "write": user.write,
                "read": user.read,
            }
            for user in users
            for host in hosts
        ],
        "topic_permissions": [
            {
                "user": user.name,
                "vhost": host,
                "exchange": EXCHANGE,
                "write": user.publishes,
                "read": user.binds,
            }
            for user in users
            for host in hosts
        ],
        "exchanges": [
            {
                "name": name,
                "vhost": host,
                "type": kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for name, kind in ((EXCHANGE, "topic"), (LISTENERS_EXCHANGE, "direct"))
            for host in hosts
        ],
    }


def with_administrator(
    base: Mapping[str, list[dict[str, Any]]], name: str, password: str, *tags: str
) -> dict[str, list[dict[str, Any]]]:
    """Return definitions with one more user, who may do everything in each virtual host.

    `base` must have `vhosts`.
    """
    everything = {"user": name, "configure": EVERYTHING, "write": EVERYTHING, "read": EVERYTHING}
    rights = [{**everything, "vhost": host["name"]} for host in base["vhosts"]]
    return {
        **base,
        "users": [account(name, password, "administrator", *tags), *base["users"]],
        "permissions": [*rights, *base["permissions"]],
    }


def account(name: str, password: str, *tags: str) -> dict[str, Any]:
    """Return a user in RabbitMQ's import format."""
    return {
        "name": name,
        "password_hash": password_hash(password),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ",".join(tags),
    }


def password_hash(password: str) -> str:
    """Return a password's hash: 4 bytes of salt, then SHA-256 of salt and password.

    https://www.rabbitmq.com/docs/passwords
    """
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
