"""Settings that a process reads from its environment, each service's with a prefix of its own."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from sqlalchemy.engine import make_url

from shared.validation import rule_of


def asyncpg_url(url: SecretStr) -> SecretStr:
    """Return a PostgreSQL URL with the driver asyncpg. Raises ValueError for another database."""
    parsed = make_url(url.get_secret_value())
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError("must be a postgresql:// URL")
    parsed = parsed.set(drivername="postgresql+asyncpg")
    return SecretStr(parsed.render_as_string(hide_password=False))


SettingsType = TypeVar("SettingsType", bound=BaseSettings)

# pydantic counts the characters of a SecretStr as items.
_SECRET_LENGTH = re.compile(r"^(Value should have at \w+ \d+) items? after validation")
_FIELD_IN_SOURCE = re.compile(r'field "(\w+)"')


class BadSettings(Exception):
    """Variables with invalid values; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_settings(
    kind: type[SettingsType], *, names: Mapping[str, str] | None = None, **values: Any
) -> SettingsType:
    """Read settings from the environment, or from `values`. Raises BadSettings.

    `names` has the variables of fields that are not set by PREFIX_FIELD. A field with a
    `validation_alias` is set by the variable of that name, which another service may read as well.
    """
    prefix = str(values.get("_env_prefix") or kind.model_config.get("env_prefix") or "")
    whole_names = {field.validation_alias for field in kind.model_fields.values()}

    def name_of(field: str) -> str:
        if field in whole_names:
            return field
        return (names or {}).get(field) or f"{prefix}{field}".upper()

    try:
        return kind(**values)
    except ValidationError as error:
        # Without the values, which may be secrets, and without links to pydantic's pages.
        parts = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [_problem(part["loc"], part["type"], part["msg"], name_of) for part in parts]
    except SettingsError as error:  # a list or a mapping that is not JSON
        field = _FIELD_IN_SOURCE.search(str(error))
        problems = [f"{name_of(field[1]) if field else prefix}: must be JSON"]
    raise BadSettings(problems)


def load_settings(kind: type[SettingsType], **values: Any) -> SettingsType:
    """Read the settings of this process. Raises SystemExit with a line per invalid variable."""
    try:
        return read_settings(kind, **values)
    except BadSettings as error:
        raise SystemExit(f"{error}\ndocs/settings.md lists the settings.") from None


def _problem(
    place: tuple[int | str, ...], kind: str, message: str, name_of: Callable[[str], str]
) -> str:
    message = _SECRET_LENGTH.sub(r"\1 characters", message)
    rule = "is not set" if kind == "missing" else rule_of(kind, message)
    if not place:
        return rule
    inside = "".join(f"[{part}]" for part in place[1:])
    return f"{name_of(str(place[0]))}{inside}: {rule}"


def _none_for_empty(value: Any) -> Any:
    """Return None for an empty variable: Docker Compose sets a missing one to an empty text."""
    return None if value == "" else value


DatabaseUrl = Annotated[SecretStr, AfterValidator(asyncpg_url)]


class ProcessSettings(BaseSettings):
    """The settings of every process: its address, its operations port, and its logs."""

    # The value of an invalid secret must not be in the error message.
    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    operations_port: int = Field(default=0, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"


class TokenSettings(BaseSettings):
    """The issuer whose access tokens are accepted, and its keys.

    Exactly one of `jwks_url` (fetched and refreshed) and `jwks` (a pinned JSON key set) is needed:
    without keys a process could verify no token.
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
    """The settings that every service has beside its own."""

    database_url: DatabaseUrl
    database_pool_size: int = Field(default=10, ge=1)
    rabbitmq_url: SecretStr
    internal_key: SecretStr
    internal_jwks: str
    local_addresses: bool = False
    """Whether e-mail addresses under test, localhost and internal are taken: on one machine."""
    idempotency_secret: Annotated[SecretStr | None, BeforeValidator(_none_for_empty)] = Field(
        default=None, min_length=32
    )
    """Recognizes repeated requests; it stays the same when `internal_key` is replaced.

    Without it `internal_key` alone does that, and replacing the key refuses repetitions.
    """
