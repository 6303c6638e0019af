"""`python -m shared.mail.tests.sender_process`: a sender that a test kills at a fail point."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.db import make_engine
from shared.failpoints import LOG, POINT
from shared.mail.sender import MailSender
from shared.mail.settings import MailSettings, encryption_of
from shared.mail.tests import sample
from shared.transactions import Transactions

_SECRETS = ("database_url", "rabbitmq_url", "internal_key", "smtp_url", "mail_secret")
_TEXTS = ("internal_jwks", "jwks", "token_issuer", "token_audience", "mail_from", "public_url")


def environment_of(settings: MailSettings) -> dict[str, str]:
    """Return the environment variables that give the process these settings."""
    secrets = {name: getattr(settings, name).get_secret_value() for name in _SECRETS}
    values = secrets | {name: getattr(settings, name) for name in _TEXTS}
    return {name.upper(): value for name, value in values.items()}


async def run_sender(settings: MailSettings, log: Path, point: str) -> int:
    """Run the process until a fail point kills it; return its exit code."""
    environment: Mapping[str, str] = environment_of(settings) | {LOG: str(log), POINT: point}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, env={**os.environ, **environment}
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


async def main() -> None:
    """Send until the process is killed."""
    settings = MailSettings()
    encryption = encryption_of(settings)
    engine = make_engine(settings.database_url)
    transactions = Transactions(engine, "carnet/sample", {}, mail=encryption)
    await MailSender(sample.PACKAGE, settings, transactions, encryption).run()


if __name__ == "__main__":
    asyncio.run(main())
