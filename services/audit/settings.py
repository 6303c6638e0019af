"""Settings of the audit service, prefix AUDIT_."""

from pydantic_settings import SettingsConfigDict

from services.audit.seal_stores import SealsPlace
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Where the evidence is kept that does not live in the database."""

    model_config = SettingsConfigDict(env_prefix="AUDIT_")

    seals: SealsPlace | None = None
    """Where the signed heads of the chains are kept: a folder, best on another machine's disk, or
    `s3://`, `gs://` or `az://bucket/prefix`. Without it nothing outside the database can contradict
    somebody who rewrites all of it."""
