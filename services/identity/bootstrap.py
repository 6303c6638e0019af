"""`python -m services.identity.bootstrap`: make the first administrator, once per installation.

Reads IDENTITY_DATABASE_URL, IDENTITY_ADMIN_EMAIL and IDENTITY_ADMIN_PASSWORD. Where an active
administrator exists it changes nothing, and reports which of the two values differ from what is
in use: such values need not keep today's rules for passwords. Does nothing while a notice of
maintenance stands in the schema.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.app import NAME
from services.identity.events import CATALOGUE
from services.identity.models import User
from services.identity.security.password_rule import new_password, require_strong
from services.identity.security.passwords import Passwords
from shared.actors import ADMIN
from shared.changes import record
from shared.db import make_engine
from shared.fields import Email, accept_local_addresses
from shared.maintenance import refuse_to_start
from shared.settings import DatabaseUrl, load_settings
from shared.text import fold
from shared.transactions import Transactions

EMAIL_VARIABLE = "IDENTITY_ADMIN_EMAIL (with Docker Compose: CARNET_ADMIN_EMAIL)"
PASSWORD_VARIABLE = "IDENTITY_ADMIN_PASSWORD (with Docker Compose: CARNET_ADMIN_PASSWORD)"  # noqa: S105
_NAMES = {"admin_email": EMAIL_VARIABLE, "admin_password": PASSWORD_VARIABLE}


def _allowed(password: SecretStr) -> SecretStr:
    return SecretStr(new_password(password.get_secret_value()))


def _strong(password: SecretStr, info: ValidationInfo) -> SecretStr:
    require_strong(password.get_secret_value(), [str(info.data.get("admin_email", ""))])
    return password


class InstallationSettings(BaseSettings):
    """The database, and which e-mail addresses are accepted, as identity's own settings say."""

    model_config = SettingsConfigDict(
        env_prefix="IDENTITY_", extra="ignore", hide_input_in_errors=True
    )

    database_url: DatabaseUrl
    local_addresses: bool = False


class AdministratorSettings(BaseSettings):
    """Who the first administrator is."""

    model_config = SettingsConfigDict(
        env_prefix="IDENTITY_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    admin_email: Email
    admin_password: Annotated[SecretStr, AfterValidator(_allowed), AfterValidator(_strong)]
    admin_name: str = "Administrator"


class BootstrapSettings(AdministratorSettings):
    """The administrator, the database, and where the outcome is written for another program."""

    database_url: DatabaseUrl
    admin_outcome_file: Path | None = None


class ExistingAdministratorSettings(BootstrapSettings):
    """The same where an administrator exists: values that are compared and not used otherwise."""

    admin_email: str
    admin_password: SecretStr


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who the first administrator is now, and whether the given password is theirs."""

    email: str
    made: bool
    password_matches: bool


class AddressTaken(Exception):
    """The address of the first administrator belongs to a user who is no active one."""


async def bootstrap(transactions: Transactions, settings: AdministratorSettings) -> Outcome:
    """Make the administrator unless there is an active one; raises AddressTaken.

    An existing one is left as it is, whatever the settings say by now: a restart must neither undo
    what an administrator changed since, nor make a second one.
    """
    passwords = Passwords(places=1)
    given = settings.admin_password.get_secret_value()
    hashed = await passwords.hash(given)
    async with transactions.system() as session:
        first = await queries.find_first_administrator(session)
        if first is None:
            if await queries.find_user_by_email(session, settings.admin_email) is not None:
                raise AddressTaken
            _make(session, settings, hashed)
            return Outcome(settings.admin_email, made=True, password_matches=True)
        email, their_hash = first.email, first.password_hash
    verdict = await passwords.verify(given, their_hash)
    return Outcome(email, made=False, password_matches=verdict.matches)


def report(outcome: Outcome, settings: AdministratorSettings) -> list[str]:
    """Return what to tell whoever set the values, a sentence a line."""
    if outcome.made:
        return [f"The administrator {outcome.email} was made."]
    lines = [f"The administrator {outcome.email} exists already; nothing was changed."]
    if fold(settings.admin_email) != fold(outcome.email):
        lines.append(
            f"{EMAIL_VARIABLE} is {settings.admin_email}, but the first administrator is made once"
            " per installation. Sign in as the existing one to add another."
        )
    if not outcome.password_matches:
        lines.append(
            f"{PASSWORD_VARIABLE} is not this administrator's password. It counts only when the"
            " administrator is made; change the password after signing in."
        )
    return lines


def _make(session: AsyncSession, settings: AdministratorSettings, password_hash: str) -> None:
    user = User(email=settings.admin_email, name=settings.admin_name, password_hash=password_hash)
    user.set_role(ADMIN)
    user.approve(None)
    session.add(user)
    record(session, "CREATE", user)


async def read_administrator(transactions: Transactions) -> BootstrapSettings:
    """Read the administrator from the environment, by all rules if one is to be made.

    Where one exists the rules may have become stricter since, and a start must not fail for them.
    Raises SystemExit with a line for each variable that cannot be used.
    """
    async with transactions.system() as session:
        exists = await queries.find_first_administrator(session) is not None
    return load_settings(
        ExistingAdministratorSettings if exists else BootstrapSettings, names=_NAMES
    )


async def _main() -> None:
    installation = load_settings(InstallationSettings)
    accept_local_addresses(installation.local_addresses)
    engine = make_engine(installation.database_url, pool_size=1)
    transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    try:
        await refuse_to_start(engine)
        settings = await read_administrator(transactions)
        outcome = await bootstrap(transactions, settings)
    except AddressTaken:
        raise SystemExit(
            f"{EMAIL_VARIABLE} is the address of a user who is no active administrator. "
            "Set another one."
        ) from None
    finally:
        await engine.dispose()
    if settings.admin_outcome_file is not None:
        settings.admin_outcome_file.write_text(json.dumps(asdict(outcome)))
    sys.stdout.write("".join(f"{line}\n" for line in report(outcome, settings)))


if __name__ == "__main__":
    asyncio.run(_main())
