"""Settings of the identity service, prefix IDENTITY_."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.identity.security.key_encryption import key_of
from shared.settings import DatabaseUrl, ServiceSettings


def _usable(secret: SecretStr) -> SecretStr:
    key_of(secret)
    return secret


SigningSecret = Annotated[SecretStr, AfterValidator(_usable)]


class KeySettings(BaseSettings):
    """What the key rotation command needs: the database, and what encrypts the keys in it."""

    model_config = SettingsConfigDict(
        env_prefix="IDENTITY_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: DatabaseUrl
    signing_secret: SigningSecret


class Settings(ServiceSettings):
    """Sign-in, its limits, and where organizations are read when a copy is missing."""

    model_config = SettingsConfigDict(env_prefix="IDENTITY_")

    organizations_url: str
    signing_secret: SigningSecret

    self_registration: bool = True
    """Whether anybody may register; if not, administrators and owners alone make users."""

    password_queue: int = Field(default=32, ge=1)
    """How many passwords may wait for the one thread that hashes; the next one is told 503."""

    failed_sign_in_seconds: float = Field(default=0.5, ge=0)
    """A refused sign-in is answered after a multiple of this, so that time tells nothing."""

    registrations_per_address: int = Field(default=100, ge=1)
    """How many registrations one address may send in an hour."""

    secure_cookies: bool = False
    """Whether cookies are for https alone: set it where the gateway is reached by https."""

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> "Settings":
        """Identity verifies with the keys in its own database: it needs no address of keys."""
        return self
