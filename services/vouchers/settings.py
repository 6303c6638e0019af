"""Settings of the vouchers service, prefix VOUCHERS_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.vouchers.models import AccountMode
from shared.encryption import BoundEncryption
from shared.mail.settings import MailSettings


class Settings(MailSettings):
    """The addresses of other services, and how long a voucher waits for its payment."""

    model_config = SettingsConfigDict(env_prefix="VOUCHERS_")

    payments_url: str
    organizations_url: str
    identity_url: str
    accounts: AccountMode = Field(
        default=AccountMode.INSTALLATION, validation_alias="PAYMENTS_ACCOUNTS"
    )
    """Whose account receives card payments. Payments reads the same variable: one value decides."""
    pending_hours: int = Field(default=24, ge=1)
    """Hours that a voucher waits for its payment by card before it is cancelled."""
    pending_days: int = Field(default=30, ge=1)
    """Days that a voucher waits for a payment by transfer or in cash, which staff enter by hand."""


def address_encryption_of(settings: Settings) -> BoundEncryption:
    """Return the encryption of the addresses of calendars, with the secret of mail."""
    secret = settings.mail_secret or settings.internal_key
    return BoundEncryption(secret, b"carnet addresses of calendars")
