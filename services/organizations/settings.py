"""Settings of the organizations service, prefix ORGANIZATIONS_."""

from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """The address of identity, which makes the owner of a new organization."""

    model_config = SettingsConfigDict(env_prefix="ORGANIZATIONS_")

    identity_url: str
