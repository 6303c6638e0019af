"""Settings of the identity service, prefix IDENTITY_."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.identity.security.key_encryption import key_of
from shared.mail.settings import MailSettings
from shared.settings import DatabaseUrl


def _require_key(secret: SecretStr) -> SecretStr:
    key_of(secret)
    return secret


SigningSecret = Annotated[SecretStr, AfterValidator(_require_key)]


class KeySettings(BaseSettings):
    """The settings of the key rotation command: the database, and the secret that encrypts keys."""

    model_config = SettingsConfigDict(
        env_prefix="IDENTITY_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: DatabaseUrl
    signing_secret: SigningSecret


class Settings(MailSettings):
    """Sign-in, its limits, and the address of the organizations service."""

    model_config = SettingsConfigDict(env_prefix="IDENTITY_")

    organizations_url: str
    signing_secret: SigningSecret

    self_registration: bool = True
    """Whether everyone may register; if not, only administrators and owners create users."""

    password_queue: int = Field(default=32, ge=1)
    """How many passwords may wait for the thread that hashes; the next one is answered with 503."""

    failed_sign_in_seconds: float = Field(default=0.5, ge=0)
    """A refused sign-in is answered after a multiple of these seconds, so that its time reveals
    nothing; zero means at once."""

    registrations_per_address: int = Field(default=100, ge=1)
    """How many registrations one network address may send in an hour."""

    reveal_existing: bool = False
    """Whether a registration with the address of an account is refused with 409. If not, the answer
    is that of every registration, and the owner of the address gets a message."""

    admins_need_second_factor: bool = True
    """Whether administrators of the system must have a second factor. One who has none can do
    nothing at the next sign-in but set it up."""

    secure_cookies: bool = False
    """Whether cookies are for HTTPS only. Set it where clients reach the gateway by HTTPS."""

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> "Settings":
        """Accept settings without a source of keys: identity has the keys in its own database."""
        return self
