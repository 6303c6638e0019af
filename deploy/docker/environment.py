"""The secrets of an installation with Docker, made once:

    python3 -m deploy.docker.environment admin@example.com

writes `.env` beside docker-compose.yml, readable by its owner alone, and never over one that is
there. With --development the card gateway is localstripe. Needs Python and nothing installed.
"""

import argparse
import json
import os
import secrets
import sys
from pathlib import Path

from deploy.docker.internal_keys import private_key, public_key

SERVICES = ("identity", "organizations", "vouchers", "payments", "audit")
SIGNERS = (*SERVICES, "gateway")
CHECKOUT = Path(__file__).resolve().parents[2]

Section = tuple[str, dict[str, str]]
"""A comment and the variables below it."""


def sections(admin_email: str, *, development: bool = False) -> list[Section]:
    """Return every variable that docker-compose.yml requires, with new secrets."""
    keys = {name: private_key(name) for name in SIGNERS}
    return [
        (
            "The first admin. The password may be changed after signing in.",
            {"CARNET_ADMIN_EMAIL": admin_email, "CARNET_ADMIN_PASSWORD": _password()},
        ),
        _card_gateway(development),
        (
            "The servers' administrators.",
            {"POSTGRES_PASSWORD": _password(), "RABBITMQ_PASSWORD": _password()},
        ),
        (
            "Each service's roles in the database: the one that works, and its schema's owner.",
            {
                f"{name.upper()}_{role}PASSWORD": _password()
                for name in SERVICES
                for role in ("DATABASE_", "OWNER_DATABASE_")
            },
        ),
        (
            "Encrypts the keys that sign access tokens. Without it they are lost.",
            {"IDENTITY_SIGNING_SECRET": secrets.token_urlsafe(32)},
        ),
        (
            "By these the services and the gateway know each other.",
            {
                **{f"{name.upper()}_INTERNAL_KEY": _json(key) for name, key in keys.items()},
                "INTERNAL_JWKS": _json({"keys": [public_key(key) for key in keys.values()]}),
            },
        ),
    ]


def _card_gateway(development: bool) -> Section:
    if not development:
        comment = "Stripe's secret key, and the signing secret of the webhook you made there."
        return comment, {"STRIPE_API_KEY": "", "STRIPE_WEBHOOK_SECRET": ""}
    return "localstripe instead of Stripe: no real money moves.", {
        "COMPOSE_PROFILES": "development",
        "STRIPE_API_BASE": "http://card-gateway:8420",
        "STRIPE_API_KEY": "sk_test_local",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(24)}",
    }


def _password() -> str:
    """Return a password that needs no escaping inside an address."""
    return secrets.token_urlsafe(24)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def rendered(parts: list[Section]) -> str:
    """Return the text of an env file. Values are quoted so that nothing in them is special."""
    blocks = []
    for comment, variables in parts:
        lines = [f"{name}='{value}'" if value else f"{name}=" for name, value in variables.items()]
        blocks.append("\n".join([f"# {comment}", *lines]))
    return "\n\n".join(blocks) + "\n"


def write_new(file: Path, text: str) -> None:
    """Write a file that only its owner can read. Raises FileExistsError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as stream:
        stream.write(text)


def main() -> int:
    """Be `python3 -m deploy.docker.environment`; return the exit code."""
    arguments = _arguments()
    if "'" in arguments.admin_email or "@" not in arguments.admin_email:
        print(f"'{arguments.admin_email}' is not an e-mail address.", file=sys.stderr)
        return 2
    parts = sections(arguments.admin_email, development=arguments.development)
    try:
        write_new(arguments.file, rendered(parts))
    except FileExistsError:
        print(f"{arguments.file} is there already: its secrets are in use.", file=sys.stderr)
        print("Keep it; to begin anew, move it and the volumes away.", file=sys.stderr)
        return 1
    print(f"Wrote {arguments.file}. The first admin's password is in it.")
    if not arguments.development:
        print("Now fill in STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m deploy.docker.environment",
        description="Write .env with new secrets for docker-compose.yml.",
    )
    parser.add_argument("admin_email", help="the first admin's e-mail address, to sign in with")
    parser.add_argument(
        "--development", action="store_true", help="use localstripe as the card gateway"
    )
    parser.add_argument("--file", type=Path, default=CHECKOUT / ".env", help="where to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
