"""Creates the secrets of an installation with Docker, once:

    python3 -m deploy.docker.environment admin@example.com

writes `.env` beside docker-compose.yml. Only its owner can read it, and an existing file is never
replaced. With --development the card gateway is the local one. With --add-missing the command adds
to an existing file the variables that an earlier version did not need. It needs only Python.
"""

import argparse
import json
import os
import secrets
import sys
from pathlib import Path

from deploy.docker.internal_keys import private_key, public_key

SERVICES = ("identity", "organizations", "vouchers", "payments", "audit")
MAILERS = ("identity", "vouchers", "payments")
SIGNERS = (*SERVICES, "gateway")
BROKER_USERS = (*SERVICES, "gateway", "operator")
CHECKOUT = Path(__file__).resolve().parents[2]

LEAST_COMPOSE = "2.20"
"""docker-compose 1.29 does not support the key `name` in docker-compose.yml."""

Section = tuple[str, dict[str, str]]
"""A comment and the variables below it."""


def sections(admin_email: str, *, development: bool = False) -> list[Section]:
    """Return every variable that docker-compose.yml requires, with new secrets."""
    keys = {name: private_key(name) for name in SIGNERS}
    return [
        (
            "The first administrator. The password may be changed after signing in.",
            {"CARNET_ADMIN_EMAIL": admin_email, "CARNET_ADMIN_PASSWORD": _password()},
        ),
        (
            "The local card gateway instead of Stripe: no real money moves.",
            {
                "COMPOSE_PROFILES": "development",
                "CARNET_LOCAL_ADDRESSES": "true",
                "STRIPE_API_BASE": "http://card-gateway:8420",
                "STRIPE_API_KEY": "sk_test_local",
                "STRIPE_WEBHOOK_SECRET": _webhook_secret(),
                "STRIPE_CONNECT_WEBHOOK_SECRET": _webhook_secret(),
                "STRIPE_PUBLISHABLE_KEY": "pk_test_local",
                "STRIPE_CLIENT_ID": "ca_LocalPlatform",
            },
        )
        if development
        else (
            "Stripe's secret key, and the signing secret of the webhook that you create there. For"
            " accounts of organizations add STRIPE_CONNECT_WEBHOOK_SECRET and STRIPE_CLIENT_ID, and"
            " STRIPE_PUBLISHABLE_KEY for browsers: docs/payments.md.",
            {"STRIPE_API_KEY": "", "STRIPE_WEBHOOK_SECRET": ""},
        ),
        (
            "The administrators of the servers.",
            {"POSTGRES_PASSWORD": _password(), "RABBITMQ_PASSWORD": _password()},
        ),
        (
            "The database roles of each service: its own, and the owner of its schema.",
            {
                f"{name.upper()}_{role}PASSWORD": _password()
                for name in SERVICES
                for role in ("DATABASE_", "OWNER_DATABASE_")
            },
        ),
        (
            "The broker's users: services, gateway, and the operator, who replays dead letters.",
            {f"{name.upper()}_RABBITMQ_PASSWORD": _password() for name in BROKER_USERS},
        ),
        (
            "Encrypts the keys that sign access tokens. If it is lost, they are lost too.",
            {"IDENTITY_SIGNING_SECRET": secrets.token_urlsafe(32)},
        ),
        (
            "The keys that identify the services and the gateway to each other.",
            {
                **{f"{name.upper()}_INTERNAL_KEY": _json(key) for name, key in keys.items()},
                "INTERNAL_JWKS": _json({"keys": [public_key(key) for key in keys.values()]}),
            },
        ),
        (
            "These identify repeated requests. They stay when the keys above are replaced.",
            {f"{name.upper()}_IDEMPOTENCY_SECRET": secrets.token_urlsafe(32) for name in SERVICES},
        ),
        (
            "These encrypt the messages that wait. If one is lost, they cannot be sent.",
            {f"{name.upper()}_MAIL_SECRET": secrets.token_urlsafe(32) for name in MAILERS},
        ),
    ]


def _webhook_secret() -> str:
    return f"whsec_{secrets.token_hex(24)}"


def _password() -> str:
    """Return a password that needs no escaping inside an address."""
    return secrets.token_urlsafe(24)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def rendered(parts: list[Section]) -> str:
    """Return the text of an env file. Values are quoted, so no character in them is special."""
    blocks = []
    for comment, variables in parts:
        lines = [f"{name}='{value}'" if value else f"{name}=" for name, value in variables.items()]
        blocks.append("\n".join([f"# {comment}", *lines]))
    return "\n\n".join(blocks) + "\n"


def missing_from(text: str, parts: list[Section]) -> list[Section]:
    """Return the sections with the variables that the text of an env file does not assign."""
    lines = [line.partition("=")[0].removeprefix("export ").strip() for line in text.splitlines()]
    missing_parts = []
    for comment, variables in parts:
        missing = {name: value for name, value in variables.items() if name not in lines}
        if missing:
            missing_parts.append((comment, missing))
    return missing_parts


def add_missing(file: Path, parts: list[Section]) -> list[str]:
    """Append the variables that an env file of an earlier version lacks; return their names.

    Existing variables are in use and stay unchanged. Raises FileNotFoundError.
    """
    text = file.read_text()
    missing = missing_from(text, parts)
    if missing:
        with file.open("a") as stream:
            stream.write(("\n" if text.endswith("\n") else "\n\n") + rendered(missing))
    return [name for _, variables in missing for name in variables]


def write_new(file: Path, text: str) -> None:
    """Write a file that only its owner can read. Raises FileExistsError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as stream:
        stream.write(text)


def main() -> int:
    """Run `python3 -m deploy.docker.environment` and return the exit code."""
    arguments = _arguments()
    if arguments.add_missing:
        return _add_missing(arguments.file)
    if "'" in arguments.admin_email or "@" not in arguments.admin_email:
        print(f"'{arguments.admin_email}' is not an e-mail address.", file=sys.stderr)
        return 2
    parts = sections(arguments.admin_email, development=arguments.development)
    try:
        write_new(arguments.file, rendered(parts))
    except FileExistsError:
        print(f"{arguments.file} exists already: its secrets are in use.", file=sys.stderr)
        print("Use it; to start without data, move it and the volumes away.", file=sys.stderr)
        return 1
    print(f"Wrote {arguments.file}. The first administrator's password is in it.")
    print(f"It needs Docker Compose {LEAST_COMPOSE} or later: see `docker compose version`.")
    if not arguments.development:
        print("Now fill in STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET.")
    return 0


def _add_missing(file: Path) -> int:
    try:
        # The first two sections, administrator and card gateway, are in every file in use.
        names = add_missing(file, sections("")[2:])
    except FileNotFoundError:
        print(f"{file} does not exist: create it with an e-mail address.", file=sys.stderr)
        return 1
    print(f"Added to {file}: {', '.join(names) or 'nothing, it is complete'}.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m deploy.docker.environment",
        description="Write .env with new secrets for docker-compose.yml.",
    )
    parser.add_argument(
        "admin_email",
        nargs="?",
        default="",
        help="the first administrator's e-mail address, to sign in with",
    )
    parser.add_argument(
        "--add-missing",
        action="store_true",
        help="add the secrets that an existing file of an earlier version lacks",
    )
    parser.add_argument("--development", action="store_true", help="use the local card gateway")
    parser.add_argument("--file", type=Path, default=CHECKOUT / ".env", help="where to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
