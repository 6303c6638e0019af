"""The description of a running stack: a file in its data folder that other commands read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

from deploy.local.errors import StartError
from deploy.local.files import write_private
from deploy.local.settings import StackSettings

STACK_FILE = "stack.json"


class AdministratorAccess(TypedDict):
    """How the first administrator signs in; the password is None if it is not known."""

    email: str
    password: str | None


class StripeAccess(TypedDict):
    """How a program reaches the card gateway."""

    api_base: str
    api_key: str
    webhook_secret: str


class ProcessPorts(TypedDict):
    """The ports of one process; a worker has only that of its operators."""

    port: int | None
    operations_port: int


class StackDescription(TypedDict):
    """What other commands and tests need to know of a running stack."""

    address: str
    documentation: str
    admin: AdministratorAccess
    logs: str
    database_url: str
    service_database_urls: Mapping[str, str]
    mailbox: str | None
    operator_rabbitmq_url: str
    stripe: StripeAccess
    processes: Mapping[str, ProcessPorts]
    pids: Mapping[str, int]


def write_description(folder: Path, description: StackDescription) -> None:
    """Write the description of the stack that runs in a data folder."""
    write_private(folder / STACK_FILE, json.dumps(description, indent=2))


def remove_description(folder: Path) -> None:
    """Remove the description when the stack has stopped."""
    (folder / STACK_FILE).unlink(missing_ok=True)


def find_description(folder: Path) -> StackDescription | None:
    """Return the description of the stack in a data folder, or None if none runs there."""
    try:
        description: StackDescription = json.loads((folder / STACK_FILE).read_text())
    except (OSError, ValueError):
        return None
    return description


def get_description(settings: StackSettings, *, otherwise: str) -> StackDescription:
    """Return the description of the stack in the settings' data folder.

    Raises StartError when no stack runs there, with `otherwise` as the remedy, and when
    CARNET_PORT is the port of another stack.
    """
    description = find_description(settings.data)
    if description is None:
        raise StartError(f"No system runs in {settings.data}.", otherwise)
    if settings.port_is_set and urlsplit(description["address"]).port != settings.port:
        raise StartError(
            f"The system of {settings.data} is at {description['address']}, not at the port of "
            f"CARNET_PORT={settings.port}.",
            "Set CARNET_DATA to the folder of the system that you mean, or unset CARNET_PORT.",
        )
    return description
