"""Bodies of organizations' accounts at gateways and of the operator's fee."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from services.payments.models import AccountStatus
from services.payments.schemas import Percent, Price
from shared.fields import Currency, RequestBody
from shared.money import Money
from shared.public_addresses import check_web_address

WebAddress = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=2000),
    AfterValidator(check_web_address),
    Field(json_schema_extra={"format": "uri", "pattern": r"^https?://[^/?#@\\\s]+([/?#]|$)"}),
]
"""An address that a browser is sent to. It may be on a private network: nothing is fetched here."""


class PaymentAccountConnect(RequestBody):
    """The addresses to which the payment gateway sends the owner of the account.

    `return_url` is for the end of the onboarding, `refresh_url` for a link that is not valid any
    more (default: `return_url`). Outside of test mode they begin with https. `country` is the
    organization's; it can be chosen only once.
    """

    return_url: WebAddress
    refresh_url: WebAddress | None = None
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None


class PaymentAccountRead(BaseModel):
    """An organization's account at a payment gateway.

    `requirements` and `disabled_reason` are in the gateway's words, `problem` is a sentence about
    what staff must do, or null.
    """

    id: int
    organization_id: int
    payment_gateway: str
    gateway_account: str | None
    status: AccountStatus
    live: bool
    country: str | None
    currency: str | None
    charges_enabled: bool
    payouts_enabled: bool
    requirements: list[str]
    disabled_reason: str | None
    problem: str | None
    created_at: datetime
    disconnected_at: datetime | None


class PaymentAccountLinkRead(BaseModel):
    """An account with a link to its onboarding, which can be opened once until it expires."""

    account: PaymentAccountRead
    url: str
    expires_at: datetime


class PlatformFeeSet(RequestBody):
    """What the operator takes of each card payment of an organization.

    The fixed amount is taken of payments in its currency only.
    """

    percent: Percent
    fixed_amount: Price = Decimal(0)
    fixed_currency: Currency | None = None


class PlatformFeeRead(BaseModel):
    """What the operator takes of each card payment; zero and no time if it was never set."""

    model_config = ConfigDict(from_attributes=True)

    percent: Money
    fixed_amount: Money
    fixed_currency: str | None
    updated_at: datetime | None
