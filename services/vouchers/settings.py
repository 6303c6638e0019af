"""Settings of the vouchers service, prefix VOUCHERS_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Where the services are that a purchase needs, and how long a voucher waits for its money."""

    model_config = SettingsConfigDict(env_prefix="VOUCHERS_")

    payments_url: str
    organizations_url: str
    identity_url: str
    pending_hours: int = Field(default=24, ge=1)
    """How long a voucher waits for its payment by card before it is cancelled."""
    pending_days: int = Field(default=30, ge=1)
    """The same for money that staff enter by hand: a transfer takes days, cash comes next week."""
