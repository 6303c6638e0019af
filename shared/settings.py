"""Settings every process reads from its environment, each under its own prefix."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url


def asyncpg_url(url: SecretStr) -> SecretStr:
    """Accept any `postgresql://` spelling; the driver is ours to choose. Raises ValueError."""
    parsed = make_url(url.get_secret_value())
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError("must be a postgresql:// URL")
    parsed = parsed.set(drivername="postgresql+asyncpg")
    return SecretStr(parsed.render_as_string(hide_password=False))


DatabaseUrl = Annotated[SecretStr, AfterValidator(asyncpg_url)]


class ProcessSettings(BaseSettings):
    """What any process has: an address, a port for its operators, and logs."""

    # A wrong secret must not appear in the log that says it is wrong.
    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    operations_port: int = Field(default=0, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"


class TokenSettings(BaseSettings):
    """Whose access tokens are accepted.

    Exactly one of `jwks_url` (fetched and refreshed) and `jwks` (a pinned JSON key set) is needed:
    a process that could verify nobody refuses to start.
    """

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    jwks_url: str | None = None
    jwks: str | None = None
    token_issuer: str
    token_audience: str

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> "TokenSettings":
        if (self.jwks_url is None) == (self.jwks is None):
            raise ValueError("set exactly one of JWKS_URL and JWKS")
        return self


class ServiceSettings(ProcessSettings, TokenSettings):
    """What each of the services needs beside its own settings."""

    database_url: DatabaseUrl
    database_pool_size: int = Field(default=10, ge=1)
    rabbitmq_url: SecretStr
    internal_key: SecretStr
    internal_jwks: str
