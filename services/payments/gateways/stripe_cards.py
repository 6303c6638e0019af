"""Cards that Stripe stores: customers and set-up intents (https://docs.stripe.com/api).

A set-up intent charges nothing. With `usage` off_session the bank agrees that the card may be
charged later while the client is away: https://docs.stripe.com/payments/save-and-reuse.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import stripe
from pydantic import SecretStr
from stripe import StripeClient, StripeError

from services.payments.gateways.card_storage import CardOrder
from services.payments.gateways.protocol import (
    CardOutcome,
    CardReport,
    Failure,
    GatewayAccount,
    WebhookRefused,
)
from services.payments.gateways.stripe_errors import (
    raised,
    raised_by_preparation,
    require_refusal,
    unavailable,
)
from services.payments.gateways.stripe_http import StripeForms, options_of
from services.payments.gateways.stripe_objects import next_action_of, our_id

_OUTCOMES: Mapping[str, CardOutcome] = {
    "requires_confirmation": CardOutcome.PREPARED,
    "requires_action": CardOutcome.REQUIRES_ACTION,
    "processing": CardOutcome.PROCESSING,
    "succeeded": CardOutcome.STORED,
    "canceled": CardOutcome.CANCELLED,
}
CARD_EVENTS = frozenset({"setup_intent.succeeded", "setup_intent.setup_failed"})

Method = Callable[[GatewayAccount, str], Awaitable[str]]
"""Returns the payment method of a token on an account."""


class StripeCards:
    """Stores cards at Stripe with the client of a gateway."""

    def __init__(self, client: StripeClient, forms: StripeForms, method_of: Method) -> None:
        self._stripe = client
        self._forms = forms
        self._method_of = method_of

    async def create_customer(
        self, account: GatewayAccount, organization_id: int, client_id: int
    ) -> str:
        """Create the customer of a client; raises GatewayUnavailable and GatewayRefused."""
        key = f"carnet-customer-{organization_id}-{client_id}"
        metadata = {"organization_id": str(organization_id), "client_id": str(client_id)}
        try:
            customer = await self._stripe.v1.customers.create_async(
                {"metadata": metadata}, options_of(account, key)
            )
        except StripeError as error:
            raise raised(error) from error
        return customer.id

    async def prepare(self, order: CardOrder, token: SecretStr) -> CardReport:
        """Create an unconfirmed set-up intent; raises GatewayUnavailable and GatewayRefused."""
        try:
            method = await self._method_of(order.account, token.get_secret_value())
            intent = await self._forms.post(
                "/v1/setup_intents",
                {
                    "customer": order.customer_id,
                    "payment_method": method,
                    "payment_method_types[0]": "card",
                    "usage": "off_session",
                    "metadata[saved_card_id]": str(order.card_id),
                },
                account=order.account.id,
                idempotency_key=f"carnet-card-{order.card_id}-{method}",
            )
        except StripeError as error:
            raise raised_by_preparation(error, order.account.id) from error
        return report_of_setup(intent, order.account.id)

    async def confirm(self, account: GatewayAccount, setup_id: str) -> CardReport:
        """Confirm a set-up intent, or report its state; raises GatewayUnavailable."""
        try:
            await self._stripe.v1.setup_intents.confirm_async(setup_id, {}, options_of(account))
        except StripeError as error:
            require_refusal(error)
        # The answer of a confirmation does not describe the card.
        return await self.look_up(account, setup_id)

    async def look_up(self, account: GatewayAccount, setup_id: str) -> CardReport:
        """Read a set-up intent with its card; raises GatewayUnavailable."""
        try:
            intent = await self._stripe.v1.setup_intents.retrieve_async(
                setup_id, {"expand": ["payment_method"]}, options_of(account)
            )
        except StripeError as error:
            raise unavailable(error) from error
        return report_of_setup(intent.to_dict(), account.id)

    async def cancel(self, account: GatewayAccount, setup_id: str) -> CardReport:
        """Cancel a set-up intent, or report what became of it; raises GatewayUnavailable."""
        try:
            await self._stripe.v1.setup_intents.cancel_async(setup_id, {}, options_of(account))
        except StripeError as error:
            require_refusal(error)
        return await self.look_up(account, setup_id)

    async def remove(self, account: GatewayAccount, method_id: str) -> None:
        """Detach a card from its customer; raises GatewayUnavailable."""
        try:
            await self._stripe.v1.payment_methods.detach_async(method_id, {}, options_of(account))
        except StripeError as error:
            # Stripe refuses a card that is detached already, or whose account is gone.
            if not isinstance(error, (stripe.InvalidRequestError, stripe.PermissionError)):
                raise unavailable(error) from error


def report_of_setup(intent: Mapping[str, Any], account: str | None) -> CardReport:
    """Return the report of a set-up intent; its card is described if it is expanded.

    Raises WebhookRefused when it is not one.
    """
    if not {"id", "status"} <= intent.keys():
        raise WebhookRefused("the event lacks what its type should have")
    outcome = _outcome(intent)
    method = intent.get("payment_method")
    card = (method.get("card") or {}) if isinstance(method, Mapping) else {}
    is_waiting = outcome is CardOutcome.REQUIRES_ACTION
    return CardReport(
        setup_id=str(intent["id"]),
        outcome=outcome,
        account=account,
        live=bool(intent.get("livemode")),
        card_id=our_id(intent, "saved_card_id"),
        method_id=method.get("id") if isinstance(method, Mapping) else method,
        brand=card.get("brand"),
        last4=card.get("last4"),
        exp_month=card.get("exp_month"),
        exp_year=card.get("exp_year"),
        failure=_failure(intent) if outcome is CardOutcome.FAILED else None,
        next_action=next_action_of(intent) if is_waiting else None,
    )


def _outcome(intent: Mapping[str, Any]) -> CardOutcome:
    status = str(intent["status"])
    if status == "requires_payment_method":
        return CardOutcome.FAILED if intent.get("last_setup_error") else CardOutcome.PREPARED
    return _OUTCOMES.get(status, CardOutcome.PROCESSING)


def _failure(intent: Mapping[str, Any]) -> Failure:
    error = intent.get("last_setup_error") or {}
    code = error.get("decline_code") or error.get("code") or "card_refused"
    return Failure(str(code), str(error.get("message") or "The card cannot be stored."))
