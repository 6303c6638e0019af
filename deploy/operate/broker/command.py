"""`carnet broker`: creates the users of a broker, in the way that its administrator prefers.

The commands read the passwords from <USER>_RABBITMQ_PASSWORD, as IDENTITY_RABBITMQ_PASSWORD. There
is one user for each service, the gateway and the operator, who replays dead letters.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Annotated

import typer

from deploy.local.errors import StartError
from deploy.operate.broker import access, management

app = typer.Typer(help="The broker's users and their rights, for a RabbitMQ of your own.")

Host = Annotated[str, typer.Option("--vhost", help="The virtual host.")]


def passwords_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return every user's password. Raises StartError that names the missing variables."""
    variables = {user: access.password_variable(user) for user in access.USERS}
    missing = [name for name in variables.values() if not environment.get(name)]
    if missing:
        raise StartError(
            f"Not set: {', '.join(missing)}.",
            "Set each to a password of its own, for instance the output of `openssl rand -hex 24`.",
        )
    return {user: environment[name] for user, name in variables.items()}


@app.command()
def definitions(vhost: Host = "/") -> None:
    """Print users, rights and exchanges as JSON for `rabbitmqctl import_definitions FILE`.

    The output has hashes of the passwords, not the passwords.
    """
    print(json.dumps(access.definitions_for(passwords_of(os.environ), host=vhost), indent=2))


@app.command()
def commands(vhost: Host = "/") -> None:
    """Print shell commands that create users, rights and exchanges.

    The commands take the passwords from the shell's variables.
    """
    print("\n".join(access.commands(vhost)))


@app.command()
def provision(vhost: Host = "/") -> None:
    """Create users, rights and exchanges by CARNET_RABBITMQ_MANAGEMENT_URL. Safe to repeat.

    The address is http://administrator:password@host:15672, or https://….
    """
    url = os.environ.get(access.MANAGEMENT_VARIABLE)
    if not url:
        raise StartError(
            f"{access.MANAGEMENT_VARIABLE} is not set.",
            "Set it, or use `carnet broker definitions` or `carnet broker commands`.",
        )
    asyncio.run(management.provision(url, passwords_of(os.environ), host=vhost))
    print(f"The broker has the users {', '.join(access.USERS)}.")
