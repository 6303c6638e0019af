"""What a person may set for a local stack, read from the environment."""

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
from shared.publishers import OPERATOR
from shared.settings import BadSettings, read_settings

DEFAULT_PORT = 8080
DEFAULT_DATA = ".carnet"
DEFAULT_ADMIN_EMAIL = "admin@example.com"
LOCAL_STRIPE_KEY = "sk_test_local"
PREPARED_FILE = "prepared.json"
"""In the data folder: what was done to its database, the first administrator included."""


@dataclass(frozen=True)
class StripeSettings:
    """A card gateway of the user's own."""

    api_base: str
    api_key: str
    webhook_secret: str


@dataclass(frozen=True)
class StackSettings:
    """Settings of one stack. None means: the embedded server, or made once and kept."""

    data: Path
    port: int = DEFAULT_PORT
    port_is_set: bool = False
    admin_email: str = DEFAULT_ADMIN_EMAIL
    admin_password: str | None = None
    database_url: str | None = None
    rabbitmq_url: str | None = None
    rabbitmq_management_url: str | None = None
    """By which the broker's users are made at each start."""
    rabbitmq_urls: Mapping[str, str] = field(default_factory=dict)
    """Addresses of the broker for users that its administrator has made."""
    stripe: StripeSettings | None = None
    webhook_secret: str | None = None
    instances: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "StackSettings":
        """Read CARNET_… and STRIPE_… variables; an empty one counts as not set.

        Raises StartError that names the variable at fault.
        """
        given = {name: value for name, value in environment.items() if value}
        rabbitmq_url, rabbitmq_urls = _broker(given)
        data = Path(given.get("CARNET_DATA", DEFAULT_DATA)).expanduser().resolve()
        if not (data / PREPARED_FILE).exists():
            _check_administrator(given)  # else one exists, and the values are only compared
        return cls(
            data=data,
            port=_port(given.get("CARNET_PORT", str(DEFAULT_PORT))),
            port_is_set="CARNET_PORT" in given,
            admin_email=given.get("CARNET_ADMIN_EMAIL", DEFAULT_ADMIN_EMAIL),
            admin_password=given.get("CARNET_ADMIN_PASSWORD"),
            database_url=_url(given, "CARNET_DATABASE_URL", ("postgresql", "postgres")),
            rabbitmq_url=rabbitmq_url,
            rabbitmq_management_url=_management(given, rabbitmq_url, rabbitmq_urls),
            rabbitmq_urls=rabbitmq_urls,
            stripe=_stripe(given),
            webhook_secret=given.get("STRIPE_WEBHOOK_SECRET"),
            instances=_instances(given.get("CARNET_INSTANCES", "")),
        )


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    raise StartError(f"CARNET_PORT is '{text}'.", "Set it to a port number from 1 to 65535.")


def _broker(given: Mapping[str, str]) -> tuple[str | None, dict[str, str]]:
    """Return the address of a broker of the user's own, and each user's where all are given."""
    names = {user: access.url_variable(user) for user in access.USERS}
    urls = {user: _url(given, name, ("amqp", "amqps")) for user, name in names.items()}
    missing = [names[user] for user, url in urls.items() if url is None]
    base = _url(given, "CARNET_RABBITMQ_URL", ("amqp", "amqps"))
    if not missing:
        found = {user: url for user, url in urls.items() if url is not None}
        for user, url in found.items():
            _require_user(names[user], url, user)
        return base or found[OPERATOR], found
    if len(missing) < len(names) or (base and access.MANAGEMENT_VARIABLE not in given):
        raise StartError(
            f"The broker is your own, and not set are {', '.join(missing)}.",
            f"Set CARNET_RABBITMQ_URL and {access.MANAGEMENT_VARIABLE}, and the users are made; or "
            "make them with `carnet broker commands` and set the address of each.",
        )
    return base, {}


def _management(
    given: Mapping[str, str], rabbitmq_url: str | None, urls: Mapping[str, str]
) -> str | None:
    """Return the management API that makes the broker's users, None when they are made already.

    Making them again would replace the passwords that the addresses of the users have.
    """
    url = _url(given, access.MANAGEMENT_VARIABLE, ("http", "https"))
    if url is not None and rabbitmq_url is None:
        raise StartError(
            f"{access.MANAGEMENT_VARIABLE} is set, but CARNET_RABBITMQ_URL is not: it would not be "
            "used.",
            "Set CARNET_RABBITMQ_URL=amqp://host:5672/ of the same broker, or unset it to use the "
            "embedded one.",
        )
    return None if urls else url


def _require_user(variable: str, url: str, user: str) -> None:
    found = bus.user_of(url)
    if found != user:
        raise StartError(
            f"{variable} signs in as '{found}'.",
            f"It must be the user '{user}': by that name others know whose events they take.",
        )


def _url(given: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str | None:
    text = given.get(name)
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


def _check_administrator(given: Mapping[str, str]) -> None:
    """Check the first administrator by identity's own rules, which are imported when needed."""
    names = {"admin_email": "CARNET_ADMIN_EMAIL", "admin_password": "CARNET_ADMIN_PASSWORD"}
    values = {field: given[name] for field, name in names.items() if name in given}
    if not values:
        return
    from services.identity.bootstrap import AdministratorSettings
    from shared.fields import accept_local_addresses

    local = given.get("IDENTITY_LOCAL_ADDRESSES", "true").lower() in ("true", "1", "yes", "on")
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


def _stripe(given: Mapping[str, str]) -> StripeSettings | None:
    base = _url(given, "STRIPE_API_BASE", ("https", "http"))
    if base is None and "STRIPE_API_KEY" in given:
        raise StartError(
            "STRIPE_API_KEY is set, but STRIPE_API_BASE is not: it would not be used.",
            "Set STRIPE_API_BASE=https://api.stripe.com, or unset the key to use the local card "
            "gateway.",
        )
    if base is None:
        return None
    missing = [n for n in ("STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET") if n not in given]
    if missing:
        raise StartError(
            f"STRIPE_API_BASE is set, but {' and '.join(missing)} is not.",
            "Set it too, or unset STRIPE_API_BASE to use the local card gateway.",
        )
    return StripeSettings(base, given["STRIPE_API_KEY"], given["STRIPE_WEBHOOK_SECRET"])


def _instances(text: str) -> dict[str, int]:
    chosen = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, number = part.partition("=")
        digits = number.isascii() and number.isdigit() and len(number) <= 2
        if name not in SERVICES or not digits or not 1 <= int(number) <= 16:
            raise StartError(
                f"CARNET_INSTANCES is '{text}'.",
                f"Write it like vouchers=2,audit=2; services are {', '.join(SERVICES)}.",
            )
        chosen[name] = int(number)
    return chosen
