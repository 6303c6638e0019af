"""`carnet audit`: verifies the audit trail."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from deploy.local.credentials import service_credentials
from deploy.local.description import get_description
from deploy.local.secret_store import SecretStore
from deploy.local.settings import StackSettings
from deploy.local.stack import SEALS_FOLDER, SECRETS_FILE
from deploy.local.system import CHECKOUT, public_keys

app = typer.Typer(help="Operate the audit trail.")


@app.callback()
def audit() -> None:
    """Operate the audit trail."""


@app.command()
def verify(
    organization: Annotated[
        int | None, typer.Argument(help="One organization's id; every chain, if none.")
    ] = None,
    first: Annotated[int | None, typer.Option(help="First position in its chain.")] = None,
    last: Annotated[int | None, typer.Option(help="Last position, inclusive.")] = None,
) -> None:
    """Verify the hash chains and print the first row of each that was changed.

    The files of the archive are verified too if AUDIT_ARCHIVE names their place. The database is
    that of AUDIT_DATABASE_URL and the service's other settings if they are set, otherwise that of
    the system that runs here. Exits with 1 if a chain is wrong.
    """
    arguments = [] if organization is None else [str(organization)]
    arguments += [f"--{end}={n}" for end, n in (("first", first), ("last", last)) if n is not None]
    command = [sys.executable, "-m", "services.audit.verify", *arguments]
    process = subprocess.run(command, env={**os.environ, **_settings()}, cwd=CHECKOUT, check=False)
    raise typer.Exit(process.returncode)


def _settings() -> dict[str, str]:
    """Return the audit service's settings, or nothing if our environment has them.

    Raises StartError when no system runs here.
    """
    if "AUDIT_DATABASE_URL" in os.environ:
        return {}
    settings = StackSettings.from_environment()
    folder = settings.data
    description = get_description(
        settings,
        otherwise="Start one with `make run`, or set the audit service's AUDIT_… variables.",
    )
    keys = service_credentials(SecretStore(folder / SECRETS_FILE)).values()
    return {
        "AUDIT_DATABASE_URL": description["service_database_urls"]["audit"],
        "AUDIT_INTERNAL_JWKS": public_keys([service.internal_key for service in keys]),
        "AUDIT_SEALS": str(folder / SEALS_FOLDER),
    }
