"""`python -m services.identity.bootstrap`: make the first administrator; safe to repeat.

Reads IDENTITY_DATABASE_URL, IDENTITY_ADMIN_EMAIL and IDENTITY_ADMIN_PASSWORD. Does nothing while a
notice of maintenance stands in the schema.
"""

import asyncio
import sys
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.app import NAME
from services.identity.events import CATALOGUE
from services.identity.models import User
from services.identity.passwords import MAX_LENGTH, MIN_LENGTH, Passwords, refuse_common
from shared.auth import ADMIN
from shared.changes import record
from shared.db import make_engine
from shared.fields import Email
from shared.maintenance import refuse_to_start
from shared.settings import DatabaseUrl
from shared.transactions import Transactions


def _uncommon(password: SecretStr) -> SecretStr:
    refuse_common(password.get_secret_value())
    return password


class BootstrapSettings(BaseSettings):
    """The database, and who the first administrator is."""

    model_config = SettingsConfigDict(
        env_prefix="IDENTITY_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: DatabaseUrl
    admin_email: Email
    admin_password: Annotated[
        SecretStr, Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH), AfterValidator(_uncommon)
    ]
    admin_name: str = "Administrator"


async def bootstrap(transactions: Transactions, settings: BootstrapSettings) -> bool:
    """Make the administrator unless the address is taken; returns whether it was made.

    An existing user is left as it is, password and role included: a restart with old settings
    must not undo what an administrator changed since.
    """
    hashed = await Passwords(places=1).hash(settings.admin_password.get_secret_value())
    async with transactions.system() as session:
        if await queries.find_by_email(session, settings.admin_email) is not None:
            return False
        _make(session, settings, hashed)
    return True


def _make(session: AsyncSession, settings: BootstrapSettings, password_hash: str) -> None:
    user = User(email=settings.admin_email, name=settings.admin_name, password_hash=password_hash)
    user.take_role(ADMIN)
    user.approve(None)
    session.add(user)
    record(session, "CREATE", user)


async def _main() -> None:
    settings = BootstrapSettings()
    engine = make_engine(settings.database_url, pool_size=1)
    try:
        await refuse_to_start(engine)
        made = await bootstrap(Transactions(engine, f"carnet/{NAME}", CATALOGUE), settings)
    finally:
        await engine.dispose()
    outcome = "was made" if made else "exists already"
    sys.stdout.write(f"The administrator {settings.admin_email} {outcome}.\n")


if __name__ == "__main__":
    asyncio.run(_main())
