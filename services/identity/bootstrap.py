"""`python -m services.identity.bootstrap`: create the first administrator of an installation.

Reads IDENTITY_DATABASE_URL, IDENTITY_ADMIN_EMAIL and IDENTITY_ADMIN_PASSWORD. Where an active
administrator exists it changes nothing, and reports which of the two values differ from those in
use; such values need not satisfy the present rule for passwords. It does nothing while the schema
contains a maintenance notice.
"""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.identity.app import NAME
from services.identity.events import CATALOGUE
from services.identity.security.password_rule import new_password, require_strong
from services.identity.service import administrators
from services.identity.service.administrators import AddressTaken, FirstAdministrator
from shared.db import make_engine
from shared.fields import Email, accept_local_addresses
from shared.maintenance import refuse_to_start
from shared.settings import DatabaseUrl, load_settings
from shared.text import fold
from shared.transactions import Transactions

EMAIL_VARIABLE = "IDENTITY_ADMIN_EMAIL (with Docker Compose: CARNET_ADMIN_EMAIL)"
PASSWORD_VARIABLE = "IDENTITY_ADMIN_PASSWORD (with Docker Compose: CARNET_ADMIN_PASSWORD)"  # noqa: S105
_NAMES = {"admin_email": EMAIL_VARIABLE, "admin_password": PASSWORD_VARIABLE}


def _require_allowed(password: SecretStr) -> SecretStr:
    return SecretStr(new_password(password.get_secret_value()))


def _require_strong(password: SecretStr, info: ValidationInfo) -> SecretStr:
    require_strong(password.get_secret_value(), [str(info.data.get("admin_email", ""))])
    return password


class InstallationSettings(BaseSettings):
    """The database, and which e-mail addresses are accepted."""

    model_config = SettingsConfigDict(
        env_prefix="IDENTITY_", extra="ignore", hide_input_in_errors=True
    )

    database_url: DatabaseUrl
    local_addresses: bool = False


class AdministratorSettings(BaseSettings):
    """The first administrator."""

    model_config = SettingsConfigDict(
        env_prefix="IDENTITY_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    admin_email: Email
    admin_password: Annotated[
        SecretStr, AfterValidator(_require_allowed), AfterValidator(_require_strong)
    ]
    admin_name: str = "Administrator"


class BootstrapSettings(AdministratorSettings):
    """The administrator, the database, and the file that contains the outcome afterwards."""

    database_url: DatabaseUrl
    admin_outcome_file: Path | None = None


class ExistingAdministratorSettings(BootstrapSettings):
    """The settings where an administrator exists: values that are compared, by no rule."""

    admin_email: str
    admin_password: SecretStr


async def bootstrap(
    transactions: Transactions, settings: AdministratorSettings
) -> FirstAdministrator:
    """Create the administrator unless there is an active one; raises AddressTaken."""
    return await administrators.create_first(
        transactions,
        email=settings.admin_email,
        name=settings.admin_name,
        password=settings.admin_password.get_secret_value(),
    )


def report(outcome: FirstAdministrator, settings: AdministratorSettings) -> list[str]:
    """Return the lines that report the outcome to the operator."""
    if outcome.made:
        return [f"The administrator {outcome.email} was created."]
    lines = [f"The administrator {outcome.email} exists already; nothing was changed."]
    if fold(settings.admin_email) != fold(outcome.email):
        lines.append(
            f"{EMAIL_VARIABLE} is {settings.admin_email}, but the first administrator is created"
            " once per installation. Sign in as the existing one to add another."
        )
    if not outcome.password_matches:
        lines.append(
            f"{PASSWORD_VARIABLE} is not this administrator's password. It is used only when the"
            " administrator is created. Change the password after signing in."
        )
    return lines


async def read_administrator(transactions: Transactions) -> BootstrapSettings:
    """Read the administrator from the environment, by all rules if one will be created.

    Where one exists, the rules may have become stricter since, and a start must not fail for that.
    Raises SystemExit with a line for each variable that cannot be used.
    """
    exists = await administrators.has_first(transactions)
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
