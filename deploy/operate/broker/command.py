"""`carnet broker`: give a broker its users, by whichever way its administrator prefers.

All of it reads the users' passwords from <USER>_RABBITMQ_PASSWORD, as IDENTITY_RABBITMQ_PASSWORD:
those of the five services, of the gateway and of the operator, who replays dead letters.
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
    """Return every user's password. Raises StartError that names the variables that are missing."""
    wanted = {user: access.password_variable(user) for user in access.USERS}
    missing = [name for name in wanted.values() if not environment.get(name)]
    if missing:
        raise StartError(
            f"Not set: {', '.join(missing)}.",
            "Set each to a password of its own, for instance that of `openssl rand -hex 24`.",
        )
    return {user: environment[name] for user, name in wanted.items()}


@app.command()
def definitions(vhost: Host = "/") -> None:
    """Print users, rights and exchanges as JSON for `rabbitmqctl import_definitions FILE`.

    It holds hashes of the passwords, not the passwords.
    """
    print(json.dumps(access.definitions_for(passwords_of(os.environ), host=vhost), indent=2))


@app.command()
def commands(vhost: Host = "/") -> None:
    """Print the same as shell commands, which take the passwords from the shell's variables."""
    print("\n".join(access.commands(vhost)))


@app.command()
def provision(vhost: Host = "/") -> None:
    """Do it by the management API of CARNET_RABBITMQ_MANAGEMENT_URL. Safe to repeat.

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
