"""Connected accounts at Stripe: https://docs.stripe.com/connect/accounts.

Accounts behave as Stripe's standard accounts: the organization has its own contract with Stripe and
the full dashboard, pays Stripe's fees, and Stripe collects what it must know and bears the losses.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from stripe import StripeClient, StripeError

from services.payments.gateways import stripe_objects
from services.payments.gateways.connecting import AccountLink, AccountOrder, CannotDisconnect
from services.payments.gateways.protocol import (
    AccountReport,
    GatewayUnavailable,
)
from services.payments.gateways.stripe_errors import raised, unavailable
from services.payments.gateways.stripe_http import StripeForms

STRIPE = "https://api.stripe.com"
_STRIPE_CONNECT = "https://connect.stripe.com"
PAGE = 100
_CLOCKS_DIFFER_BY = timedelta(minutes=5)

_CONTROLLER = {
    "controller[fees][payer]": "account",
    "controller[losses][payments]": "stripe",
    "controller[requirement_collection]": "stripe",
    "controller[stripe_dashboard][type]": "full",
}
"""https://docs.stripe.com/connect/migrate-to-controller-properties: what `type=standard` was."""

_BY_HAND = (
    "This installation cannot disconnect accounts by itself. An owner of the account can remove the"
    " installation in Stripe's dashboard, or the operator sets PAYMENTS_STRIPE_CLIENT_ID."
)


class StripeSettings(BaseSettings):
    """The settings PAYMENTS_STRIPE_…: docs/settings.md describes each."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_STRIPE_", frozen=True, extra="ignore")

    api_base: str = STRIPE
    api_key: SecretStr
    webhook_secret: SecretStr = Field(min_length=1)
    connect_webhook_secret: SecretStr | None = None
    publishable_key: str | None = None
    client_id: str | None = None

    @field_validator("connect_webhook_secret", "publishable_key", "client_id", mode="before")
    @classmethod
    def _none_for_empty(cls, value: object) -> object:
        """Read an empty variable as not set: anybody can sign with an empty secret."""
        return None if value == "" else value

    @property
    def connect_base(self) -> str:
        """The address of the API that disconnects accounts. Stripe has a host of its own for it."""
        base = self.api_base.rstrip("/")
        return _STRIPE_CONNECT if base == STRIPE else base


class StripeAccounts:
    """The part of a Stripe gateway that creates, reads and disconnects connected accounts.

    `forms` sends to the API, and `connect_forms` to the API that disconnects accounts.
    """

    def __init__(
        self,
        settings: StripeSettings,
        client: StripeClient,
        forms: StripeForms,
        connect_forms: StripeForms,
    ) -> None:
        self.live = settings.api_key.get_secret_value().startswith(("sk_live_", "rk_live_"))
        self.publishable_key = settings.publishable_key
        self._settings = settings
        self._stripe = client
        self._forms = forms
        self._connect_forms = connect_forms

    def require_connections(self) -> None:
        """Raise ValueError if a setting is missing that connected accounts need."""
        if self._settings.connect_webhook_secret is None:
            raise ValueError(
                "PAYMENTS_STRIPE_CONNECT_WEBHOOK_SECRET: is not set, and PAYMENTS_ACCOUNTS="
                "organization needs it"
            )

    async def create_account(self, order: AccountOrder) -> AccountReport:
        """Create an account, or return the one that was created for this reference before.

        Raises GatewayUnavailable and GatewayRefused. Stripe forgets idempotency keys after a day,
        so the accounts that were created since the first request are compared as well.
        """
        try:
            account = await self._find_account(order)
            if account is None:
                form = _account_form(order)
                account = await self._forms.post(
                    "/v1/accounts", form, account=None, idempotency_key=_key_of(order, form)
                )
        except StripeError as error:
            raise raised(error) from error
        return self._report(account)

    async def _find_account(self, order: AccountOrder) -> Mapping[str, Any] | None:
        since = int((order.requested_at - _CLOCKS_DIFFER_BY).timestamp())
        page = await self._stripe.v1.accounts.list_async({"limit": PAGE, "created": {"gte": since}})
        async for account in page.auto_paging_iter():
            fields: dict[str, Any] = account.to_dict()
            if (fields.get("metadata") or {}).get("payment_account") == order.reference:
                return fields
        return None

    async def link_account(self, account: str, return_url: str, refresh_url: str) -> AccountLink:
        """Create an account link: https://docs.stripe.com/api/account_links.

        Raises AccountNotAccessible, GatewayUnavailable and GatewayRefused.
        """
        try:
            link = await self._stripe.v1.account_links.create_async(
                {
                    "account": account,
                    "type": "account_onboarding",
                    "return_url": return_url,
                    "refresh_url": refresh_url,
                }
            )
        except StripeError as error:
            raise raised(error) from error
        return AccountLink(link.url, datetime.fromtimestamp(link.expires_at, UTC))

    async def read_account(self, account: str) -> AccountReport:
        """Read an account; raises AccountNotAccessible and GatewayUnavailable."""
        try:
            stored = await self._stripe.v1.accounts.retrieve_async(account)
        except StripeError as error:
            raise unavailable(error) from error
        return self._report(stored.to_dict())

    async def disconnect_account(self, account: str) -> None:
        """Disconnect an account: https://docs.stripe.com/connect/oauth-reference.

        Raises AccountNotAccessible if it was disconnected, GatewayUnavailable and CannotDisconnect.
        """
        if self._settings.client_id is None:
            await self.read_account(account)
            raise CannotDisconnect(_BY_HAND)
        form = {"client_id": self._settings.client_id, "stripe_user_id": account}
        try:
            await self._connect_forms.post("/oauth/deauthorize", form, account=None)
        except StripeError as error:
            # This API answers an account that is not connected like a wrong client id.
            await self.read_account(account)
            raise GatewayUnavailable(type(error).__name__) from error

    def _report(self, account: Mapping[str, Any]) -> AccountReport:
        # Only an account of the mode of the key can be read, and the object does not name the mode.
        return stripe_objects.report_of_account(account, live=self.live)


def _account_form(order: AccountOrder) -> dict[str, str]:
    form = {
        **_CONTROLLER,
        "metadata[organization_id]": str(order.organization_id),
        "metadata[payment_account]": order.reference,
    }
    if order.country is not None:
        form["country"] = order.country
    if order.email is not None:
        form["email"] = order.email
    return form


def _key_of(order: AccountOrder, form: Mapping[str, str]) -> str:
    """Return the idempotency key. Stripe refuses a key that is repeated with another form."""
    digest = hashlib.sha256(urlencode(form).encode()).hexdigest()
    return f"carnet-account-{order.reference}-{digest}"
