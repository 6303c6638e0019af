"""`carnet keys`: lists and rotates the keys that sign access tokens while the system runs."""

import asyncio
import os
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from deploy.local import credentials
from deploy.local.description import get_description
from deploy.local.errors import StartError
from deploy.local.secret_store import SecretStore
from deploy.local.settings import StackSettings
from deploy.local.stack import SECRETS_FILE
from services.identity import keys
from services.identity.app import NAME
from services.identity.events import CATALOGUE
from services.identity.service.keyring import PUBLICATION_LEAD
from services.identity.settings import KeySettings
from shared.db import make_engine
from shared.transactions import Transactions

DATABASE, SECRET = "IDENTITY_DATABASE_URL", "IDENTITY_SIGNING_SECRET"

app = typer.Typer(help="The keys that sign access tokens. A rotation ends no session.")


@app.command("list")
def list_keys() -> None:
    """Show every key, the newest first."""
    _run(["list"])


@app.command()
def rotate(
    after: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="When the new key is used; with less than 300 some requests may get a 401.",
        ),
    ] = int(PUBLICATION_LEAD.total_seconds()),
) -> None:
    """Publish a new key that is used later; the old one is valid until its tokens expire."""
    _run(["rotate", "--after", str(after)])


def _run(arguments: list[str]) -> None:
    settings = _settings()
    try:
        lines = asyncio.run(_run_in_database(settings, arguments))
    except (OSError, DBAPIError) as error:
        raise StartError(
            f"The database failed: {type(error).__name__}.",
            "Nothing was changed; check that the system runs, and repeat the command.",
        ) from error
    print("\n".join(lines))


async def _run_in_database(settings: KeySettings, arguments: list[str]) -> list[str]:
    engine = make_engine(settings.database_url, pool_size=1)
    try:
        transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
        return await keys.run(transactions, settings, arguments)
    finally:
        await engine.dispose()


def _settings() -> KeySettings:
    """Return identity's settings if they are set, otherwise those of the stack that runs here.

    Raises StartError when there is neither.
    """
    database, secret = os.environ.get(DATABASE), os.environ.get(SECRET)
    if not database and not secret:
        stack = StackSettings.from_environment()
        remedy = f"Start one with `make run`, or set {DATABASE} and {SECRET} as identity has them."
        database = get_description(stack, otherwise=remedy)["service_database_urls"][NAME]
        secret = credentials.signing_secret(SecretStore(stack.data / SECRETS_FILE))
    try:
        return KeySettings.model_validate({"database_url": database, "signing_secret": secret})
    except ValidationError as error:
        wrong = " and ".join(str(part["loc"][0]) for part in error.errors())
        raise StartError(
            f"Identity's settings cannot be used: {wrong}.",
            f"Set {DATABASE} and {SECRET} to the values of its processes.",
        ) from None
