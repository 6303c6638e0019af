"""Settings of the vouchers service, prefix VOUCHERS_."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Where the services are that a purchase needs, and how long a voucher waits for its money.

    `pending_hours` is how long an unpaid voucher is kept before it is cancelled.
    """

    model_config = SettingsConfigDict(env_prefix="VOUCHERS_")

    payments_url: str
    organizations_url: str
    identity_url: str
    pending_hours: int = Field(default=24, ge=1)

    @property
    def pending_for(self) -> timedelta:
        """How long a voucher may wait for its payment."""
        return timedelta(hours=self.pending_hours)
