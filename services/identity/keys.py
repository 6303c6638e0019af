"""`python -m services.identity.keys rotate|list`: the keys that sign access tokens.

Reads IDENTITY_DATABASE_URL and IDENTITY_SIGNING_SECRET.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta

from services.identity.app import NAME
from services.identity.events import CATALOGUE
from services.identity.models import SigningKey
from services.identity.security.key_encryption import KeyEncryption
from services.identity.service import keyring
from services.identity.service.keyring import PUBLICATION_LEAD
from services.identity.settings import KeySettings
from shared.db import make_engine, now
from shared.settings import load_settings
from shared.transactions import Transactions


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.identity.keys",
        description="The keys that sign access tokens. A rotation ends no session.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show every key, the newest first")
    rotate = commands.add_parser("rotate", help="publish a new key that takes over in a while")
    rotate.add_argument(
        "--after",
        type=int,
        default=int(PUBLICATION_LEAD.total_seconds()),
        metavar="SECONDS",
        help="when it takes over; below 300, requests may get a 401 (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def describe(key: SigningKey) -> str:
    """Return one line about a key."""
    moment = now()
    if key.published_until is not None and key.published_until < moment:
        state = "retired"
    elif key.signs_from > moment:
        state = "waiting"
    else:
        state = "published"
    until = key.published_until.isoformat(timespec="seconds") if key.published_until else "-"
    since = key.signs_from.isoformat(timespec="seconds")
    return f"{key.id}  {state:9}  signs from {since}  published until {until}"


async def run(
    transactions: Transactions, settings: KeySettings, command_line: Sequence[str]
) -> list[str]:
    """Run the command; return the lines to print."""
    arguments = _arguments(command_line)
    async with transactions.system() as session:
        if arguments.command == "rotate":
            lead = timedelta(seconds=arguments.after)
            await keyring.rotate(session, KeyEncryption(settings.signing_secret), lead)
        return [describe(key) for key in await keyring.list_keys(session)]


async def _main(command_line: Sequence[str]) -> None:
    _arguments(command_line)  # an invalid command line and --help need no settings
    settings = load_settings(KeySettings)
    engine = make_engine(settings.database_url, pool_size=1)
    try:
        lines = await run(Transactions(engine, f"carnet/{NAME}", CATALOGUE), settings, command_line)
    finally:
        await engine.dispose()
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
