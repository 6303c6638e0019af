"""The secrets of a local stack, created at the first start and stored in its data folder."""

import json
import secrets
from functools import partial
from pathlib import Path

from joserfc.jwk import ECKey

from deploy.local.files import write_private
from deploy.local.mail import SERVICES_WITH_MAIL
from deploy.local.secret_store import SecretStore
from deploy.local.settings import StackSettings
from deploy.local.system import SERVICES, Credentials
from deploy.operate.broker import access


def service_credentials(store: SecretStore) -> dict[str, Credentials]:
    """Return the passwords, the internal key and the idempotency secret of every service."""
    return {
        name: Credentials(
            password=store.get(f"{name}_password", _password),
            owner_password=store.get(f"{name}_owner_password", _password),
            internal_key=store.get(f"{name}_internal_key", partial(_private_key, name)),
            idempotency_secret=store.get(f"{name}_idempotency_secret", _secret),
        )
        for name in SERVICES
    }


def mail_secrets(store: SecretStore) -> dict[str, str]:
    """Return the secrets that encrypt the messages of the services that send mail."""
    return {name: store.get(f"{name}_mail_secret", _secret) for name in SERVICES_WITH_MAIL}


def broker_passwords(store: SecretStore) -> dict[str, str]:
    """Return the passwords of the broker's users."""
    return {user: store.get(f"{user}_rabbitmq_password", _password) for user in access.USERS}


def gateway_key(store: SecretStore) -> str:
    """Return the key with which the gateway signs its calls to services."""
    return store.get("gateway_internal_key", partial(_private_key, "gateway"))


def signing_secret(store: SecretStore) -> str:
    """Return the secret that encrypts token-signing keys: 32 bytes, base64url without padding."""
    return store.get("identity_signing_secret", _secret)


def webhook_secret(store: SecretStore, settings: StackSettings) -> str:
    """Return the secret that signs the card gateway's webhooks."""
    if settings.stripe is not None:
        return settings.stripe.webhook_secret
    return settings.webhook_secret or store.get("stripe_webhook_secret", _webhook_secret)


def connect_webhook_secret(store: SecretStore, settings: StackSettings) -> str | None:
    """Return the secret that signs webhooks about connected accounts, None if there is none.

    Only a card gateway of the user's own can lack it.
    """
    if settings.stripe is not None:
        return settings.stripe.connect_webhook_secret
    return settings.connect_webhook_secret or store.get(
        "stripe_connect_webhook_secret", _webhook_secret
    )


def admin_password(store: SecretStore, settings: StackSettings) -> str:
    """Return the first administrator's password: the one that is set, or one created once."""
    return settings.admin_password or store.get("admin_password", lambda: secrets.token_urlsafe(18))


def store_admin(file: Path, email: str, password: str) -> None:
    """Store the first administrator's address and password in a private file."""
    write_private(file, json.dumps({"email": email, "password": password}, indent=2) + "\n")


def _password() -> str:
    return secrets.token_urlsafe(24)


def _webhook_secret() -> str:
    return f"whsec_{secrets.token_hex(24)}"


def _secret() -> str:
    return secrets.token_urlsafe(32)


def _private_key(service: str) -> str:
    key = ECKey.generate_key("P-256", {"kid": service, "use": "sig", "alg": "ES256"})
    return json.dumps(key.as_dict(private=True), sort_keys=True)
