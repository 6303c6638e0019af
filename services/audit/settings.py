"""Settings of the audit service, prefix AUDIT_."""

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Where the evidence is kept that does not live in the database."""

    model_config = SettingsConfigDict(env_prefix="AUDIT_")

    seals: Path | None = None
    """Folder of the signed heads of the chains, best on another machine's disk. Without it
    nothing outside the database can contradict somebody who rewrites all of it."""
