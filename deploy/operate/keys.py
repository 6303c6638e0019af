"""`carnet keys`: the keys that sign access tokens, listed and rotated while the system runs."""

import asyncio
import os
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from deploy.local import credentials
from deploy.local.errors import StartError
from deploy.local.secret_store import SecretStore
from deploy.local.settings import StackSettings
from deploy.local.stack import SECRETS_FILE, description_of
from services.identity import keys
from services.identity.app import NAME
from services.identity.events import CATALOGUE
from services.identity.service.keyring import PUBLICATION_LEAD
from services.identity.settings import KeySettings
from shared.db import make_engine
from shared.transactions import Transactions

DATABASE, SECRET = "IDENTITY_DATABASE_URL", "IDENTITY_SIGNING_SECRET"

app = typer.Typer(help="The keys that sign access tokens. No rotation ends anybody's session.")


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
            help="When the new key takes over; less than 300 may cost requests a 401.",
        ),
    ] = int(PUBLICATION_LEAD.total_seconds()),
) -> None:
    """Publish a new key that takes over in a while; the old one counts until its tokens died."""
    _run(["rotate", "--after", str(after)])


def _run(arguments: list[str]) -> None:
    settings = _settings()
    try:
        lines = asyncio.run(_lines(settings, arguments))
    except (OSError, DBAPIError) as error:
        raise StartError(
            f"The database did not do it: {type(error).__name__}.",
            "Nothing was changed; check that the system runs, and repeat the command.",
        ) from error
    print("\n".join(lines))


async def _lines(settings: KeySettings, arguments: list[str]) -> list[str]:
    engine = make_engine(settings.database_url, pool_size=1)
    try:
        transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
        return await keys.run(transactions, settings, arguments)
    finally:
        await engine.dispose()


def _settings() -> KeySettings:
    """Return identity's own settings when they are set, else those of the stack that runs here.

    Raises StartError when there is neither.
    """
    given = {name: os.environ.get(name) for name in (DATABASE, SECRET)}
    database, secret = given.values()
    if not any(given.values()):
        database, secret = _of_running_stack()
    try:
        return KeySettings.model_validate({"database_url": database, "signing_secret": secret})
    except ValidationError as error:
        wrong = " and ".join(str(part["loc"][0]) for part in error.errors())
        raise StartError(
            f"Identity's settings cannot be used: {wrong}.",
            f"Set {DATABASE} and {SECRET} as its processes have them.",
        ) from None


def _of_running_stack() -> tuple[str, str]:
    settings = StackSettings.from_environment()
    remedy = f"Start one with `make run`, or set {DATABASE} and {SECRET} as identity has them."
    described = description_of(settings, otherwise=remedy)
    secret = credentials.signing_secret(SecretStore(settings.data / SECRETS_FILE))
    return described["service_database_urls"][NAME], secret
