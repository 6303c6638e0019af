"""Settings of the payments service, prefix PAYMENTS_."""

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.payments.gateways import BY_HAND, AccountMode, Gateways, require_known
from services.payments.models import Method
from shared.mail.settings import MailSettings

_GATEWAYS = {
    Method.CREDIT_CARD: "stripe",
    Method.BANK_TRANSFER: "manual",
    Method.CASH: "manual",
    Method.OTHER: "manual",
}


class Settings(MailSettings):
    """Which gateway takes which method of payment, and how long anything may stay unfinished.

    A gateway reads its own settings: see its file in `gateways/`.
    """

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_")

    gateways: dict[Method, str] = Field(default=_GATEWAYS)
    accounts: AccountMode = AccountMode.INSTALLATION
    """Whose account at a gateway new payments are charged on; earlier payments stay where they are.
    """
    former_gateways: tuple[str, ...] = ()
    """Gateways that take no payments any more, but settle and give back those they took."""
    reconcile_after_seconds: float = Field(default=30, gt=0)
    """How long an attempt may run before the gateway is asked; longer than its calls take."""
    give_up_after_seconds: float = Field(default=180, gt=0)
    """When an attempt that a crash interrupted before the charge counts as failed."""
    expire_after_seconds: float = Field(default=24 * 3600, gt=0)
    """When a card payment that waits for its payer is cancelled."""

    gateway_calls_per_second: float = Field(default=20, gt=0)
    """How many calls of gateways the reconciler of one worker begins in a second."""
    webhook_bodies_days: int = Field(default=90, ge=1)
    """How long a webhook's raw body is stored; its id, type and outcome stay."""

    @field_validator("gateways")
    @classmethod
    def _with_defaults(cls, gateways: dict[Method, str]) -> dict[Method, str]:
        for name in gateways.values():
            require_known(name)
        return {**_GATEWAYS, **gateways}

    @field_validator("former_gateways")
    @classmethod
    def _all_known(cls, gateways: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(require_known(name) for name in gateways)

    def open_gateways(self) -> Gateways:
        """Return the gateways, not connected yet; raises SystemExit for a missing setting."""
        by_method = {str(method): name for method, name in self.gateways.items()}
        # A payment of nothing is recorded by hand, whatever gateway its method has.
        former = {BY_HAND, *self.former_gateways}
        gateways = Gateways.open(by_method, former, accounts=self.accounts)
        try:
            gateways.require_connections()
        except ValueError as error:
            raise SystemExit(f"{error}.\ndocs/settings.md lists the settings.") from None
        return gateways
