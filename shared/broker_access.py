"""The broker's users: which there are, and what each may do. The database's are in provisioning.

Exchanges, queues and users are names to RabbitMQ's permissions, which are regular expressions:
configure (declare, delete), write (publish; bind a queue), read (consume; bind to an exchange), and
for the topic exchange those of routing keys: https://www.rabbitmq.com/docs/access-control.
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
    """A user without tags and its rights in one virtual host."""

    name: str
    configure: str
    write: str
    read: str
    publishes: str = NOTHING
    """Routing keys that it may publish with on the exchange of events."""
    binds: str = NOTHING
    """Routing keys that it may bind its queues to there."""


def broker_url(url: str, user: str, password: str | None = None) -> str:
    """Return an address of the broker by which another user signs in.

    Without a password it has that of the given address: all users of the tests' broker share one.
    """
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    secret = unquote(parts.password or "") if password is None else password
    return parts._replace(netloc=f"{user}:{quote(secret, safe='')}@{where}").geturl()


def service_user(name: str, takes: Collection[str] | None) -> BrokerUser:
    """Return a service's user: it publishes its own events, and has queues and an exchange.

    `takes` names the services whose events it may take; None: everybody's.
    """
    own = f"{re.escape(name)}\\."
    reached = f"^({re.escape(EXCHANGE)}|{re.escape(LISTENERS_EXCHANGE)})$|^{own}"
    return BrokerUser(name, f"^{own}", reached, reached, f"^{own}", _keys_of(takes))


def listening_user(name: str, takes: Collection[str]) -> BrokerUser:
    """Return the user of a process that takes events and publishes none."""
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
    """Return virtual hosts, users, their rights and the exchanges as RabbitMQ imports them.

    Importing changes what it names and deletes nothing: safe to repeat. Of the passwords it holds
    salted hashes. https://www.rabbitmq.com/docs/definitions
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
    """Return definitions with one more user, who may do everything in each of their hosts.

    `base` must name its virtual hosts.
    """
    everything = {"user": name, "configure": EVERYTHING, "write": EVERYTHING, "read": EVERYTHING}
    rights = [{**everything, "vhost": host["name"]} for host in base["vhosts"]]
    return {
        **base,
        "users": [account(name, password, "administrator", *tags), *base["users"]],
        "permissions": [*rights, *base["permissions"]],
    }


def account(name: str, password: str, *tags: str) -> dict[str, Any]:
    """Return a user as RabbitMQ imports it."""
    return {
        "name": name,
        "password_hash": _password_hash(password),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ",".join(tags),
    }


def _password_hash(password: str) -> str:
    """Hash as RabbitMQ stores it: four bytes of salt, then SHA-256 of salt and password.

    https://www.rabbitmq.com/docs/passwords
    """
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
