"""The settings of a local stack, read from the environment."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local.errors import StartError
from deploy.local.system import SERVICES
from deploy.operate.broker import access
from shared import bus
from shared.mail.settings import SmtpServer
from shared.publishers import OPERATOR
from shared.settings import BadSettings, read_settings

DEFAULT_PORT = 8080
DEFAULT_DATA = ".carnet"
DEFAULT_ADMIN_EMAIL = "admin@example.com"
LOCAL_STRIPE_KEY = "sk_test_local"
LOCAL_PUBLISHABLE_KEY = "pk_test_local"
PREPARED_FILE = "prepared.json"
"""In the data folder: the state of the prepared database, with the first administrator."""


@dataclass(frozen=True)
class StripeSettings:
    """A card gateway of the user's own."""

    api_base: str
    api_key: str
    webhook_secret: str
    connect_webhook_secret: str | None = None


@dataclass(frozen=True)
class StackSettings:
    """Settings of one stack. None means the embedded server, or a value that is created once."""

    data: Path
    port: int = DEFAULT_PORT
    port_is_set: bool = False
    admin_email: str = DEFAULT_ADMIN_EMAIL
    admin_password: str | None = None
    database_url: str | None = None
    rabbitmq_url: str | None = None
    rabbitmq_management_url: str | None = None
    """The API that creates the broker's users at each start."""
    rabbitmq_urls: Mapping[str, str] = field(default_factory=dict)
    """The broker's address for each user, if its administrator has created them."""
    stripe: StripeSettings | None = None
    webhook_secret: str | None = None
    connect_webhook_secret: str | None = None
    smtp_url: str | None = None
    """The SMTP server; None means the local mailbox."""
    mail_from: str | None = None
    public_url: str | None = None
    """The address at which users reach the gateway; None means the gateway's own."""
    instances: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "StackSettings":
        """Read the variables CARNET_… and STRIPE_…; an empty one counts as not set.

        Raises StartError that names the wrong variable.
        """
        variables = {name: value for name, value in environment.items() if value}
        port = variables.get("CARNET_PORT", str(DEFAULT_PORT))
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
            raise StartError(
                f"CARNET_PORT is '{port}'.", "Set it to a port number from 1 to 65535."
            )
        rabbitmq_url, rabbitmq_urls = _broker(variables)
        data = Path(variables.get("CARNET_DATA", DEFAULT_DATA)).expanduser().resolve()
        if not (data / PREPARED_FILE).exists():
            _check_administrator(variables)  # otherwise it exists, and the values are only compared
        return cls(
            data=data,
            port=int(port),
            port_is_set="CARNET_PORT" in variables,
            admin_email=variables.get("CARNET_ADMIN_EMAIL", DEFAULT_ADMIN_EMAIL),
            admin_password=variables.get("CARNET_ADMIN_PASSWORD"),
            database_url=_url(variables, "CARNET_DATABASE_URL", ("postgresql", "postgres")),
            rabbitmq_url=rabbitmq_url,
            rabbitmq_management_url=_management(variables, rabbitmq_url, rabbitmq_urls),
            rabbitmq_urls=rabbitmq_urls,
            stripe=_stripe(variables),
            webhook_secret=variables.get("STRIPE_WEBHOOK_SECRET"),
            connect_webhook_secret=variables.get("STRIPE_CONNECT_WEBHOOK_SECRET"),
            smtp_url=_smtp_url(variables),
            mail_from=variables.get("CARNET_MAIL_FROM"),
            public_url=_url(variables, "CARNET_PUBLIC_URL", ("https", "http")),
            instances=_instances(variables.get("CARNET_INSTANCES", "")),
        )


def _broker(variables: Mapping[str, str]) -> tuple[str | None, dict[str, str]]:
    """Return the address of the operator's own broker, and that of each user if all are set."""
    names = {user: access.url_variable(user) for user in access.USERS}
    urls = {user: _url(variables, name, ("amqp", "amqps")) for user, name in names.items()}
    missing = [names[user] for user, url in urls.items() if url is None]
    base = _url(variables, "CARNET_RABBITMQ_URL", ("amqp", "amqps"))
    if not missing:
        user_urls = {user: url for user, url in urls.items() if url is not None}
        for user, url in user_urls.items():
            if bus.user_of(url) != user:
                raise StartError(
                    f"{names[user]} signs in as '{bus.user_of(url)}'.",
                    f"It must sign in as '{user}': other services know publishers by these names.",
                )
        return base or user_urls[OPERATOR], user_urls
    if len(missing) < len(names) or (base and access.MANAGEMENT_VARIABLE not in variables):
        raise StartError(
            f"The broker is your own, and these are not set: {', '.join(missing)}.",
            f"Set CARNET_RABBITMQ_URL and {access.MANAGEMENT_VARIABLE} to have the users created; "
            "or create them with `carnet broker commands` and set the address of each.",
        )
    return base, {}


def _management(
    variables: Mapping[str, str], rabbitmq_url: str | None, urls: Mapping[str, str]
) -> str | None:
    """Return the management API that creates the broker's users, or None if they exist.

    Creating them again would replace the passwords that are in the addresses of the users.
    """
    url = _url(variables, access.MANAGEMENT_VARIABLE, ("http", "https"))
    if url is not None and rabbitmq_url is None:
        raise StartError(
            f"{access.MANAGEMENT_VARIABLE} is set, but CARNET_RABBITMQ_URL is not: it would not be "
            "used.",
            "Set CARNET_RABBITMQ_URL=amqp://host:5672/ of the same broker, or unset it to use the "
            "embedded one.",
        )
    return None if urls else url


def _url(variables: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str | None:
    text = variables.get(name)
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        complete = parts.scheme in schemes and parts.hostname and (parts.port or True)
    except ValueError:  # a port that is no number
        complete = None
    if complete:
        return text
    form = "host" if "https" in schemes else "user:password@host:port/…"
    raise StartError(
        f"{name} is not an address of the kind {schemes[0]}://{form}",
        "Write it like that; characters such as @ or / in a password as %40 or %2F.",
    )


def _check_administrator(variables: Mapping[str, str]) -> None:
    """Check the first administrator by the rules of identity, imported only when needed."""
    names = {"admin_email": "CARNET_ADMIN_EMAIL", "admin_password": "CARNET_ADMIN_PASSWORD"}
    values = {field: variables[name] for field, name in names.items() if name in variables}
    if not values:
        return
    from services.identity.bootstrap import AdministratorSettings
    from shared.fields import accept_local_addresses

    local = variables.get("IDENTITY_LOCAL_ADDRESSES", "true").lower() in ("true", "1", "yes", "on")
    usable = {"admin_email": DEFAULT_ADMIN_EMAIL, "admin_password": secrets.token_urlsafe(18)}
    accept_local_addresses(local)
    try:
        read_settings(AdministratorSettings, names=names, **{**usable, **values})
    except BadSettings as error:
        raise StartError(
            str(error), "Nothing was started. README.md lists the variables and what they mean."
        ) from None
    finally:
        accept_local_addresses(False)


def _smtp_url(variables: Mapping[str, str]) -> str | None:
    url = variables.get("CARNET_SMTP_URL")
    if url is None:
        return None
    try:
        SmtpServer.of_url(url)
    except ValueError as error:
        raise StartError(
            f"CARNET_SMTP_URL {error}.", "docs/mail.md has examples; unset it for a local mailbox."
        ) from None
    if "CARNET_MAIL_FROM" not in variables:
        raise StartError(
            "CARNET_SMTP_URL is set, but CARNET_MAIL_FROM is not.",
            "Set the sender of messages: CARNET_MAIL_FROM='Carnet <mail@carnet.example>'",
        )
    return url


def _stripe(variables: Mapping[str, str]) -> StripeSettings | None:
    base = _url(variables, "STRIPE_API_BASE", ("https", "http"))
    if base is None and "STRIPE_API_KEY" in variables:
        raise StartError(
            "STRIPE_API_KEY is set, but STRIPE_API_BASE is not: it would not be used.",
            "Set STRIPE_API_BASE=https://api.stripe.com, or unset the key to use the local card "
            "gateway.",
        )
    if base is None:
        return None
    missing = [n for n in ("STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET") if n not in variables]
    if missing:
        raise StartError(
            f"STRIPE_API_BASE is set, but {' and '.join(missing)} is not.",
            "Set it too, or unset STRIPE_API_BASE to use the local card gateway.",
        )
    return StripeSettings(
        base,
        variables["STRIPE_API_KEY"],
        variables["STRIPE_WEBHOOK_SECRET"],
        variables.get("STRIPE_CONNECT_WEBHOOK_SECRET"),
    )


def _instances(text: str) -> dict[str, int]:
    instances = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, number = part.partition("=")
        digits = number.isascii() and number.isdigit() and len(number) <= 2
        if name not in SERVICES or not digits or not 1 <= int(number) <= 16:
            raise StartError(
                f"CARNET_INSTANCES is '{text}'.",
                f"Write it like vouchers=2,audit=2; services are {', '.join(SERVICES)}.",
            )
        instances[name] = int(number)
    return instances
