"""Settings of the audit service, of its verification and of its retention, prefix AUDIT_."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.audit.evidence.seal_stores import SealsPlace
from shared.settings import DatabaseUrl, ServiceSettings


class Settings(ServiceSettings):
    """Where the evidence outside the database is stored."""

    model_config = SettingsConfigDict(env_prefix="AUDIT_")

    seals: SealsPlace | None = None
    """Where the signed heads of the chains are stored: a folder, best on another machine's disk, or
    `s3://`, `gs://` or `az://bucket/prefix`. Without it a complete rewrite of the database cannot
    be detected."""


class VerificationSettings(BaseSettings):
    """The settings of `python -m services.audit.verify`, prefix AUDIT_."""

    model_config = SettingsConfigDict(
        env_prefix="AUDIT_", extra="ignore", hide_input_in_errors=True
    )

    database_url: DatabaseUrl
    internal_jwks: str
    seals: SealsPlace | None = None
    archive: Path | None = None


class RetentionSettings(BaseSettings):
    """The settings of `python -m services.audit.retention`, prefix AUDIT_."""

    model_config = SettingsConfigDict(env_prefix="AUDIT_", extra="ignore")

    owner_database_url: DatabaseUrl
    archive: Path
    retention_months: int = Field(default=72, ge=1)
